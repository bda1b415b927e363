"""Absolute position embeddings, learned; resized when a clip's grid is not the one they were built for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.grid import grid_to_tokens, tokens_to_grid
from mvit_video.types import THW


def _table(num_rows: int, dim: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, num_rows, dim), std=0.02))


class SeparablePosition(nn.Module):
    """A table over space plus a table over time, and a row of its own for the class token.

    On another grid the spatial table is resized bicubically and the temporal one linearly.

    Args:
        thw: grid that the tables are built for.
        dim: channels of a token.

    Source: MViT (arXiv:2104.11227) section 3.3 and table 11, `pos_embed_spatial|temporal|class` of the published
    checkpoints.
    """

    def __init__(self, thw: THW, dim: int) -> None:
        super().__init__()
        self.thw = thw
        self.spatial = _table(thw.h * thw.w, dim)
        self.temporal = _table(thw.t, dim)
        self.class_token = _table(1, dim)

    def _resized(self, thw: THW) -> tuple[Tensor, Tensor]:
        spatial, temporal = self.spatial, self.temporal
        if thw[1:] != self.thw[1:]:
            plane = spatial.mT.unflatten(-1, self.thw[1:])
            spatial = F.interpolate(plane, thw[1:], mode="bicubic", align_corners=False).flatten(2).mT
        if thw.t != self.thw.t:
            temporal = F.interpolate(temporal.mT, thw.t, mode="linear", align_corners=False).mT
        return spatial, temporal

    def forward(self, thw: THW) -> Float[Tensor, "1 tokens dim"]:
        """Rows for the class token and every cell of the grid `thw`."""
        spatial, temporal = self._resized(thw)
        cells = (temporal[:, :, None] + spatial[:, None]).flatten(1, 2)
        return torch.cat([self.class_token, cells], dim=1)


class JointPosition(nn.Module):
    """One table with a row for the class token and each cell of the grid, resized trilinearly on another grid.

    Args:
        thw: grid that the table is built for.
        dim: channels of a token.

    Source: MViT (arXiv:2104.11227) table 11, `pos_embed` of the published checkpoints.
    """

    def __init__(self, thw: THW, dim: int) -> None:
        super().__init__()
        self.thw = thw
        self.table = _table(1 + thw.volume, dim)

    def forward(self, thw: THW) -> Float[Tensor, "1 tokens dim"]:
        """Rows for the class token and every cell of the grid `thw`."""
        if thw == self.thw:
            return self.table
        volume = tokens_to_grid(self.table[:, 1:], self.thw)
        cells, _ = grid_to_tokens(F.interpolate(volume, thw, mode="trilinear", align_corners=False))
        return torch.cat([self.table[:, :1], cells], dim=1)
