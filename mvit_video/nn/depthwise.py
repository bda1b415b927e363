"""Depthwise 3-D convolutions."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.types import THW

Borders = Literal["zeros", "circular"]


def same_padding(kernel: THW) -> THW:
    """Return the padding with which an odd kernel of stride 1 keeps the size of the grid."""
    return THW(*(k // 2 for k in kernel))


class DepthwiseConv3d(nn.Conv3d):
    """Depthwise convolution with bias; the grid keeps its size.

    Args:
        kernel: odd sizes.
        borders: padding: zeros, or the other side of the grid.
    """

    def __init__(self, dim: int, kernel: THW, borders: Borders = "zeros") -> None:
        super().__init__(dim, dim, kernel, padding=same_padding(kernel), groups=dim, padding_mode=borders)


class HeadSharedConv3d(nn.Module):
    """Depthwise convolution whose `D` kernels are shared by all heads.

    It is one convolution over all `N*D` channels with the kernels repeated N times: heads stay off the batch axis.

    Args:
        head_dim: channels of a head, D.
        num_heads: heads that share the kernels, N.
    """

    def __init__(self, head_dim: int, num_heads: int, kernel: THW, stride: THW) -> None:
        super().__init__()
        self.num_heads, self.stride = num_heads, stride
        self.padding = same_padding(kernel)
        self.weight = nn.Parameter(torch.empty(head_dim, 1, *kernel))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # the default of nn.Conv3d, as in the published models

    def forward(self, grid: Float[Tensor, "batch dim t h w"]) -> Float[Tensor, "batch dim t_out h_out w_out"]:
        return F.conv3d(grid, self._kernels(), None, self.stride, self.padding, groups=grid.shape[1])

    def _kernels(self) -> Float[Tensor, "dim 1 kt kh kw"]:
        return self.weight.repeat(self.num_heads, 1, 1, 1, 1)
