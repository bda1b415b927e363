"""Depthwise 3-D convolution with gradients that are quick on a CPU too."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.cpu import is_recording
from mvit_video.types import THW

Borders = Literal["zeros", "circular"]


class DepthwiseConv3d(nn.Conv3d):
    """A kernel for each channel, with a bias; the size of the grid stays.

    Args:
        dim: channels.
        kernel: odd sizes.
        borders: what lies beyond the grid: zeros, or its other side.
    """

    def __init__(self, dim: int, kernel: THW, borders: Borders = "zeros") -> None:
        padding = (kernel.t // 2, kernel.h // 2, kernel.w // 2)
        super().__init__(dim, dim, kernel, padding=padding, groups=dim, padding_mode=borders)

    def forward(self, input: Float[Tensor, "batch dim t h w"]) -> Float[Tensor, "batch dim t h w"]:
        if self.padding_mode != "zeros" or self.bias is None:
            return super().forward(input)
        t, h, w = self.kernel_size
        grid = depthwise_conv3d(input, self.weight, THW(1, 1, 1), THW(t // 2, h // 2, w // 2))
        return grid + self.bias[:, None, None, None]


def depthwise_conv3d(
    grid: Float[Tensor, "batch dim t h w"], weight: Float[Tensor, "dim 1 kt kh kw"], stride: THW, padding: THW
) -> Float[Tensor, "batch dim t_out h_out w_out"]:
    """Convolve each channel with its own kernel: `F.conv3d` with as many groups as channels.

    Where gradients are asked for on a CPU they are computed by temporal tap, which on whole volumes oneDNN does
    10 to 50 times slower (benchmarks/bench_model.py; equality in tests/nn/test_depthwise.py).
    """
    in_training = torch.is_grad_enabled() and (grid.requires_grad or weight.requires_grad)
    if in_training and grid.device.type == "cpu" and not is_recording():
        return _DepthwiseConv3d.apply(grid, weight, stride, padding)
    return F.conv3d(grid, weight, None, stride, padding, groups=grid.shape[1])


class _DepthwiseConv3d(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(grid: Tensor, weight: Tensor, stride: THW, padding: THW) -> Tensor:
        return F.conv3d(grid, weight, None, stride, padding, groups=grid.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        grid, weight, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(grid, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grads
        grid, weight = ctx.saved_tensors
        grad_grid, grad_weight = _gradients(grad, grid, weight, ctx.stride, ctx.padding, ctx.needs_input_grad[:2])
        return grad_grid, grad_weight, None, None


def _gradients(
    grad: Tensor, grid: Tensor, weight: Tensor, stride: THW, padding: THW, needed: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of grid and weight, those that are needed: a sum over temporal taps of 2-D convolutions' gradients."""
    dtype = grid.dtype
    exact = torch.promote_types(dtype, torch.float32)  # half precision has no quick strided 2-D gradient either
    grad, weight = grad.to(exact), weight.to(exact)
    grad_grid = torch.zeros_like(grid, dtype=exact) if needed[0] else None
    by_tap: list[Tensor] = []
    for tap in range(weight.shape[2]):
        sources, targets = _frames_of_tap(tap, grid.shape[2], grad.shape[2], stride.t, padding.t)
        frames = _frames(grid[:, :, sources]).to(exact)
        frame_grad, tap_grad, _ = torch.ops.aten.convolution_backward(
            _frames(grad[:, :, targets]), frames, weight[:, :, tap], None, stride[1:], padding[1:], (1, 1),
            False, (0, 0), grid.shape[1], [*needed, False],
        )  # fmt: skip
        if grad_grid is not None:
            num_frames = len(range(*sources.indices(grid.shape[2])))
            grad_grid[:, :, sources] += frame_grad.unflatten(0, (len(grid), num_frames)).transpose(1, 2)
        by_tap.append(tap_grad)
    return (
        None if grad_grid is None else grad_grid.to(dtype),
        torch.stack(by_tap, dim=2).to(dtype) if needed[1] else None,
    )


def _frames(grid: Tensor) -> Tensor:
    return grid.transpose(1, 2).flatten(0, 1)


def _frames_of_tap(tap: int, num_in: int, num_out: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Frames that a temporal tap reads, and frames that it writes; those in the padding are left out."""
    first = max(0, -((tap - padding) // stride))
    last = min(num_out - 1, (num_in - 1 + padding - tap) // stride)
    start = first * stride + tap - padding
    return slice(start, start + (last - first) * stride + 1, stride), slice(first, last + 1)
