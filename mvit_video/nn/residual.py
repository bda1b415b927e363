"""Residual blocks of convolutions, with norm and activation before each.

Letters: N maps, C channels, H W grid.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.block import DropPath


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is projected where grid or width change.

    Args:
        dim: channels in.
        dim_out: channels out.
        stride: from a cell of the output to the next, in cells of the input.
        drop_path_rate: probability of dropping the branch of a map.

    Source: Identity Mappings in Deep Residual Networks (arXiv:1603.05027).
    """

    def __init__(self, dim: int, dim_out: int, stride: int = 1, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(dim)
        self.conv1 = nn.Conv2d(dim, dim_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(dim_out)
        self.conv2 = nn.Conv2d(dim_out, dim_out, 3, padding=1, bias=False)
        self.shortcut = _shortcut(dim, dim_out, stride)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C_out H_out W_out"]:
        active = self.norm1(x).relu()
        skip = x if self.shortcut is None else self.shortcut(active)
        return skip + self.drop_path(self.conv2(self.norm2(self.conv1(active)).relu()))


class Bottleneck(nn.Module):
    """A 3x3 convolution of a quarter of the channels between two of 1x1, around such a shortcut.

    Args:
        dim: channels in.
        dim_out: channels out, a multiple of 4.
        stride: of the middle convolution.
        drop_path_rate: probability of dropping the branch of a map.

    Source: Identity Mappings in Deep Residual Networks (arXiv:1603.05027).
    """

    def __init__(self, dim: int, dim_out: int, stride: int = 1, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        width = dim_out // 4
        self.norm1 = nn.BatchNorm2d(dim)
        self.conv1 = nn.Conv2d(dim, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, dim_out, 1, bias=False)
        self.shortcut = _shortcut(dim, dim_out, stride)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C_out H_out W_out"]:
        active = self.norm1(x).relu()
        skip = x if self.shortcut is None else self.shortcut(active)
        x = self.conv2(self.norm2(self.conv1(active)).relu())
        return skip + self.drop_path(self.conv3(self.norm3(x).relu()))


def _shortcut(dim: int, dim_out: int, stride: int) -> nn.Module | None:
    return nn.Conv2d(dim, dim_out, 1, stride, bias=False) if stride != 1 or dim != dim_out else None
