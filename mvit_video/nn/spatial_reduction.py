"""Joint reduction of keys and values before their projection: PVT's and PVTv2's."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.grid import grid_to_tokens, join_class_token, split_class_token, tokens_to_grid
from mvit_video.types import THW

Uneven = Literal["pad", "floor"]
KVReduction = Literal["conv", "max", "avg", "sra", "linear_sra"]


def pad_to_multiple(grid: Float[Tensor, "batch dim t h w"], size: THW) -> Float[Tensor, "batch dim t2 h2 w2"]:
    """Pad each axis of the grid with zeros at its end, up to a multiple of `size`."""
    t, h, w = (-n % s for n, s in zip(grid.shape[2:], size, strict=True))
    return F.pad(grid, (0, w, 0, h, 0, t)) if t or h or w else grid


class SpatialReduction(nn.Module):
    """Convolution that joins each cube of patch tokens into one, and a norm; a class token passes unchanged.

    Args:
        stride: size of a cube, PVT's `(1, R, R)`.
        uneven: where the cubes do not tile the grid: `pad` adds zeros; `floor` ignores the rest, as the published code.

    Source: PVT (arXiv:2102.12122) section 3.3, eq. 3 and 4; agrees with timm's Twins-PCPVT
    (tests/models/families/pvt/test_pvt_parity.py), and with a linear layer (tests/nn/test_spatial_reduction.py).
    """

    def __init__(self, dim: int, stride: THW, uneven: Uneven = "pad") -> None:
        super().__init__()
        self.stride, self.uneven = stride, uneven
        self.conv = nn.Conv3d(dim, dim, stride, stride)
        self.norm = nn.LayerNorm(dim)  # eps of the published models: 1e-5 here, 1e-6 in their blocks

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"], thw: THW
    ) -> tuple[Float[Tensor, "batch reduced dim"], THW]:
        class_token, patches = split_class_token(tokens, thw)
        grid = tokens_to_grid(patches, thw)
        if self.uneven == "pad":
            grid = pad_to_multiple(grid, self.stride)
        elif any(n < s for n, s in zip(thw, self.stride, strict=True)):
            raise ValueError(
                f"a grid of {tuple(thw)} is smaller than one cube of {tuple(self.stride)}; choose uneven='pad'"
            )
        patches, thw = grid_to_tokens(self.conv(grid))
        return join_class_token(class_token, self.norm(patches)), thw


class LinearSpatialReduction(nn.Module):
    """Average of the patch tokens of each frame over a plane of fixed size: attention of linear cost.

    Args:
        side: height and width of the plane; a smaller frame is stretched to it.

    Source: PVTv2 (arXiv:2106.13797) section 3.1, linear SRA; agrees with timm
    (tests/models/families/pvt/test_pvt_parity.py).
    """

    def __init__(self, dim: int, side: int = 7) -> None:
        super().__init__()
        self.side = side
        self.conv = nn.Conv3d(dim, dim, 1)
        self.norm = nn.LayerNorm(dim)
        self.act = nn.GELU()

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"], thw: THW
    ) -> tuple[Float[Tensor, "batch reduced dim"], THW]:
        class_token, patches = split_class_token(tokens, thw)
        frames = tokens_to_grid(patches, thw).transpose(1, 2).flatten(0, 1)
        plane = F.adaptive_avg_pool2d(frames, self.side)
        patches, thw = grid_to_tokens(self.conv(plane.unflatten(0, (-1, thw.t)).transpose(1, 2)))
        return join_class_token(class_token, self.act(self.norm(patches))), thw
