"""Pre-activation residual blocks of convolutions, and of attention within windows of a map.

Letters: N maps, C channels, H W grid, P side of a window, D channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.block import DropPath


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is projected where grid or width change.

    Args:
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
    """A 3x3 convolution of a quarter of the channels between two 1x1 convolutions, around the same shortcut.

    Args:
        dim_out: channels out, a multiple of 4.
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


class WindowAttention(nn.Module):
    """Self-attention within square windows that tile a map, with one table of relative positions for all heads.

    Args:
        head_dim: channels of each head, whatever `dim` is.
        window_size: side of a window in cells.

    Raises:
        ValueError: windows do not tile the map.

    Source: AlterNet in How Do Vision Transformers Work? (arXiv:2202.06709) section 5; equal to its definition written
    out (tests/nn/test_window_attention.py).
    """

    def __init__(self, dim: int, dim_out: int, num_heads: int, window_size: int, head_dim: int = 64) -> None:
        super().__init__()
        self.num_heads, self.window_size = num_heads, window_size
        inner = num_heads * head_dim
        self.q = nn.Conv2d(dim, inner, 1, bias=False)
        self.kv = nn.Conv2d(dim, 2 * inner, 1, bias=False)
        self.proj = nn.Conv2d(inner, dim_out, 1)
        side = 2 * window_size - 1
        self.rel_pos = nn.Parameter(0.02 * torch.randn(side, side))

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C_out H W"]:
        num_rows, num_columns = self._tiles(x)
        q, k, v = (self._windows(part) for part in (self.q(x), *self.kv(x).chunk(2, dim=1)))
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias().to(q.dtype))
        x = x.unflatten(0, (-1, num_rows, num_columns)).unflatten(4, (self.window_size, self.window_size))
        return self.proj(x.permute(0, 3, 6, 1, 4, 2, 5).flatten(5, 6).flatten(3, 4).flatten(1, 2))

    def _tiles(self, x: Tensor) -> tuple[int, int]:
        """Return the number of windows along height and width."""
        height, width = x.shape[2:]
        if height % self.window_size or width % self.window_size:
            raise ValueError(
                f"windows of {self.window_size}x{self.window_size} do not tile a map of {height}x{width}; give frames "
                "whose maps are multiples of the window, or build the net for this size (crop_size, window_size)"
            )
        return height // self.window_size, width // self.window_size

    def _windows(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "windows heads cells D"]:
        side = self.window_size
        x = x.unflatten(3, (-1, side)).unflatten(2, (-1, side)).unflatten(1, (self.num_heads, -1))
        return x.permute(0, 3, 5, 1, 4, 6, 2).flatten(4, 5).flatten(0, 2)

    def _bias(self) -> Float[Tensor, "cells keys"]:
        """Return the bias of each pair of a query (row) and a key, by their distance."""
        along = torch.arange(self.window_size, device=self.rel_pos.device)
        cells = torch.cartesian_prod(along, along)
        distance = cells[None] - cells[:, None] + self.window_size - 1
        return self.rel_pos[distance[..., 0], distance[..., 1]]


class WindowBlock(nn.Module):
    """Pre-activation residual block that mixes cells by attention within windows; it has no MLP.

    Args:
        width: channels that enter attention.
        drop_path_rate: probability of dropping the branch of a map.
    """

    def __init__(
        self, dim: int, dim_out: int, width: int, num_heads: int, window_size: int, drop_path_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(dim)
        self.conv1 = nn.Conv2d(dim, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.attn = WindowAttention(width, dim_out, num_heads, window_size)
        self.shortcut = _shortcut(dim, dim_out, 1)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C_out H W"]:
        active = F.gelu(self.norm1(x))
        skip = x if self.shortcut is None else self.shortcut(active)
        return skip + self.drop_path(self.attn(self.norm2(self.conv1(active))))


def _shortcut(dim: int, dim_out: int, stride: int) -> nn.Module | None:
    return nn.Conv2d(dim, dim_out, 1, stride, bias=False) if stride != 1 or dim != dim_out else None
