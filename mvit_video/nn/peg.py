"""Position encodings from a convolution over the grid."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.depthwise import Borders, DepthwiseConv3d
from mvit_video.nn.grid import grid_to_tokens, split_class_token, tokens_to_grid
from mvit_video.types import THW


class PositionEncodingGenerator(nn.Module):
    """Add to each patch token a depthwise convolution of those around it; a class token is left alone.

    There is no table, so any number of frames, height and width work. Zero padding encodes how far the border is;
    with circular borders the encoding depends on neighbours alone, and is equivariant to shifts.

    Args:
        dim: channels of a token.
        kernel: odd sizes; `(1, k, k)` for nets of images.
        borders: what lies beyond the grid.

    Source: CPVT (arXiv:2102.10882) section 3.2, in three dimensions; agrees with timm's Twins-PCPVT
    (tests/models/test_pvt_parity.py), identities in tests/nn/test_peg.py.
    """

    def __init__(self, dim: int, kernel: THW, borders: Borders = "zeros") -> None:
        super().__init__()
        if any(size % 2 == 0 for size in kernel):
            raise ValueError(f"kernel must be odd, so that the grid keeps its size, got {tuple(kernel)}")
        self.conv = DepthwiseConv3d(dim, kernel, borders)
        nn.init.normal_(self.conv.weight, std=(2 / kernel.volume) ** 0.5)  # of the published code
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, tokens: Float[Tensor, "batch tokens dim"], thw: THW) -> Float[Tensor, "batch tokens dim"]:
        class_token, patches = split_class_token(tokens, thw)
        encoding, _ = grid_to_tokens(self.conv(tokens_to_grid(patches, thw)))
        patches = patches + encoding
        return patches if class_token is None else torch.cat([class_token, patches], dim=1)
