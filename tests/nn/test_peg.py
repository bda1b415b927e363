"""PEG in three dimensions: what it adds, what it leaves alone, and which shifts it follows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mvit_video.nn import PositionEncodingGenerator, grid_to_tokens, tokens_to_grid
from mvit_video.types import THW

SIZE = THW(4, 6, 5)
KERNEL = THW(3, 3, 3)


def peg(kernel: THW = KERNEL, borders: str = "zeros") -> PositionEncodingGenerator:
    torch.manual_seed(0)
    made = PositionEncodingGenerator(8, kernel, borders).double()
    torch.nn.init.normal_(made.conv.bias)
    return made


def tokens(num_class_tokens: int = 0, size: THW = SIZE) -> Tensor:
    return torch.randn(2, num_class_tokens + size.volume, 8, dtype=torch.float64)


def rolled(x: Tensor, shift: tuple[int, int, int]) -> Tensor:
    return grid_to_tokens(tokens_to_grid(x, SIZE).roll(shift, (2, 3, 4)))[0]


@pytest.mark.parametrize("kernel", [KERNEL, THW(1, 3, 3), THW(1, 5, 5)])
@torch.no_grad()
def test_it_adds_the_convolution_once(kernel: THW) -> None:
    made, x = peg(kernel), tokens()
    padding = [k // 2 for k in kernel]
    encoding = F.conv3d(tokens_to_grid(x, SIZE), made.conv.weight, made.conv.bias, 1, padding, groups=8)
    torch.testing.assert_close(made(x, SIZE), x + grid_to_tokens(encoding)[0])


@torch.no_grad()
def test_with_weights_of_zero_it_is_the_identity() -> None:
    made, x = peg(), tokens(1)
    for parameter in made.parameters():
        parameter.zero_()
    assert torch.equal(made(x, SIZE), x)


@torch.no_grad()
def test_the_class_token_passes_by_and_has_no_part_in_the_encoding() -> None:
    made, x = peg(), tokens(1)
    out = made(x, SIZE)
    assert torch.equal(out[:, 0], x[:, 0])
    torch.testing.assert_close(out[:, 1:], made(x[:, 1:], SIZE))


@pytest.mark.parametrize("shift", [(1, 0, 0), (0, 2, 0), (3, 5, 1)])
@torch.no_grad()
def test_with_circular_borders_it_moves_exactly_with_its_input(shift: tuple[int, int, int]) -> None:
    made, x = peg(borders="circular"), tokens()
    torch.testing.assert_close(made(rolled(x, shift), SIZE), rolled(made(x, SIZE), shift), rtol=0, atol=1e-12)


@torch.no_grad()
def test_zeros_beyond_the_grid_tell_the_rim_and_nothing_else() -> None:
    zeros, circular, x = peg(), peg(borders="circular"), tokens()
    difference = tokens_to_grid(zeros(x, SIZE) - circular(x, SIZE), SIZE).abs().amax(dim=(0, 1))
    rim = torch.ones(SIZE, dtype=torch.bool)
    rim[1:-1, 1:-1, 1:-1] = False
    assert difference[~rim].max() < 1e-12
    assert difference[rim].min() > 1e-3


@torch.no_grad()
def test_only_the_middle_slice_of_time_makes_every_frame_one_of_an_image() -> None:
    """The inflation that loading takes: exact for any clip, also of one frame and at both ends."""
    image, clip, x = peg(THW(1, 3, 3)), peg(), tokens()
    clip.conv.weight.zero_()
    clip.conv.weight[:, :, 1:2] = image.conv.weight
    clip.conv.bias.copy_(image.conv.bias)
    torch.testing.assert_close(clip(x, SIZE), image(x, SIZE))
    torch.testing.assert_close(clip(x[:, :30], THW(1, 6, 5)), image(x[:, :30], THW(1, 6, 5)))


def test_gradients_are_those_of_the_plain_convolution() -> None:
    made, x = peg(), tokens().requires_grad_()
    found = torch.autograd.grad(made(x, SIZE).square().sum(), [x, made.conv.weight, made.conv.bias])
    plain = F.conv3d(tokens_to_grid(x, SIZE), made.conv.weight, made.conv.bias, 1, 1, groups=8)
    loss = (x + grid_to_tokens(plain)[0]).square().sum()
    torch.testing.assert_close(found, torch.autograd.grad(loss, [x, made.conv.weight, made.conv.bias]))


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kernel must be odd.*\(1, 2, 2\)"):
        PositionEncodingGenerator(8, THW(1, 2, 2))
