"""The depthwise convolution's gradients against autograd's own of `F.conv3d`, and against finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mvit_video.nn.gradients import depthwise_conv3d
from mvit_video.types import THW

CASES = [
    ((2, 6, 5, 7, 6), THW(3, 3, 3), THW(1, 2, 2)),
    ((2, 6, 5, 7, 6), THW(3, 3, 3), THW(2, 1, 3)),
    ((1, 4, 1, 4, 4), THW(3, 3, 3), THW(1, 1, 1)),
    ((1, 4, 2, 9, 9), THW(1, 9, 9), THW(1, 8, 8)),
    ((3, 2, 6, 4, 4), THW(5, 1, 1), THW(3, 1, 1)),
]


def inputs(size: tuple[int, ...], kernel: THW, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, THW]:
    generator = torch.Generator().manual_seed(0)
    grid = torch.randn(size, generator=generator).to(dtype, memory_format=torch.channels_last_3d).requires_grad_()
    weight = torch.randn(size[1], 1, *kernel, generator=generator).to(dtype).requires_grad_()
    return grid, weight, THW(*(k // 2 for k in kernel))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4), (torch.bfloat16, 0.2)])
@pytest.mark.parametrize(("size", "kernel", "stride"), CASES)
def test_value_and_gradients_equal_conv3d(
    size: tuple[int, ...], kernel: THW, stride: THW, dtype: torch.dtype, tolerance: float
) -> None:
    grid, weight, padding = inputs(size, kernel, dtype)
    found = depthwise_conv3d(grid, weight, stride, padding)
    expected = F.conv3d(grid.double(), weight.double(), None, stride, padding, groups=size[1])
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)
    cotangent = torch.randn_like(found)
    found_gradients = torch.autograd.grad(found, (grid, weight), cotangent)
    expected_gradients = torch.autograd.grad(expected, (grid, weight), cotangent.double())
    for mine, theirs in zip(found_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("kernel", "stride"), [case[1:] for case in CASES[:2]])
def test_second_derivatives_equal_finite_differences(kernel: THW, stride: THW) -> None:
    grid, weight, padding = inputs((1, 2, 3, 5, 4), kernel, torch.float64)
    assert torch.autograd.gradgradcheck(lambda g, w: depthwise_conv3d(g, w, stride, padding), (grid, weight))


def test_only_the_gradient_that_is_asked_for() -> None:
    grid, weight, padding = inputs(*CASES[0][:2], torch.float64)
    depthwise_conv3d(grid.detach(), weight, CASES[0][2], padding).sum().backward()
    assert grid.grad is None
    assert weight.grad is not None


def test_an_empty_batch_has_empty_gradients() -> None:
    grid, weight, padding = inputs((0, 6, 5, 7, 6), THW(3, 3, 3), torch.float32)
    depthwise_conv3d(grid, weight, THW(1, 2, 2), padding).sum().backward()
    assert grid.grad is not None
    assert torch.equal(weight.grad, torch.zeros_like(weight))


def test_per_sample_gradients_equal_a_loop() -> None:
    grid, weight, padding = inputs((3, 4, 2, 5, 5), THW(3, 3, 3), torch.float64)

    def loss(weight: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        return depthwise_conv3d(sample[None], weight, THW(1, 2, 2), padding).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weight.detach(), grid.detach())
    for gradient, sample in zip(found, grid.detach(), strict=True):
        (expected,) = torch.autograd.grad(loss(weight, sample), weight)
        torch.testing.assert_close(gradient, expected)
