"""Position embeddings, learned: absolute and relative; resized when a grid is not the one they were built for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.grid import grid_to_tokens, split_class_token, tokens_to_grid
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


class RelativePosition(nn.Module):
    """Decomposed relative positions: a table per axis with a row per distance, shared by the heads of a block.

    Tables of another length than the grids ask for are resized linearly at every pass, as in the reference; that is so
    for grids that pooling rounds up although their tables were sized by rounding down.

    Args:
        thw_q: grid of the pooled queries that the tables are built for.
        thw_k: grid of the pooled keys likewise.
        head_dim: channels of a head.

    Source: MViTv2 (arXiv:2112.01526) section 4.1, eq. 2 and 3; agrees with torchvision (tests/models/test_parity.py).
    As in SlowFast `cal_rel_pos_spatial` the term is neither scaled nor applied to the class token.
    """

    def __init__(self, thw_q: THW, thw_k: THW, head_dim: int) -> None:
        super().__init__()
        rows = THW(*(2 * max(q, k) - 1 for q, k in zip(thw_q, thw_k, strict=True)))
        self.h, self.w = _distance_table(rows.h, head_dim), _distance_table(rows.w, head_dim)
        # in a single frame the term is the same for all keys of a query, and softmax takes it out
        self.t = _distance_table(rows.t, head_dim) if rows.t > 1 else None

    def forward(
        self, q: Float[Tensor, "batch queries heads dim"], thw_q: THW, thw_k: THW
    ) -> tuple[Float[Tensor, "batch queries heads positions"], Float[Tensor, "keys positions"]]:
        """What each query adds to its scores at each height, width and time of the keys; and where each key is."""
        class_token, patches = split_class_token(q, thw_q)
        grid = patches.contiguous().unflatten(1, thw_q)  # one copy for height and time, which backward keeps
        by_h = grid.flatten(3, 4) @ relative_rows(self.h, thw_q.h, thw_k.h).mT
        terms = [
            by_h.unflatten(3, (thw_q.w, -1)),
            torch.einsum("bthwnc,wkc->bthwnk", grid, relative_rows(self.w, thw_q.w, thw_k.w)),
        ]
        t, h, w = torch.meshgrid([torch.arange(n, device=q.device) for n in thw_k], indexing="ij")
        places = [F.one_hot(h.flatten(), thw_k.h), F.one_hot(w.flatten(), thw_k.w)]
        if self.t is not None:
            by_t = grid.flatten(2, 4) @ relative_rows(self.t, thw_q.t, thw_k.t).mT
            terms.append(by_t.unflatten(2, (thw_q.h, thw_q.w, -1)))
            places.append(F.one_hot(t.flatten(), thw_k.t))
        by_query, by_key = torch.cat(terms, dim=-1).flatten(1, 3), torch.cat(places, dim=-1).to(q.dtype)
        if class_token is not None:
            by_query, by_key = F.pad(by_query, (0, 0, 0, 0, 1, 0)), F.pad(by_key, (0, 0, 1, 0))
        return by_query, by_key


def _distance_table(num_rows: int, dim: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(num_rows, dim), std=0.02))


def relative_rows(table: Float[Tensor, "distance dim"], num_q: int, num_k: int) -> Float[Tensor, "queries keys dim"]:
    """Row of each pair of a query and a key along one axis.

    On grids of different size the coarser steps over as many cells as it pools, and the first cells coincide. The order
    of operations is SlowFast's in float32, because a ratio such as 7.8 is truncated to another row in any other.

    Args:
        num_q: cells of the queries along the axis.
        num_k: cells of the keys along the axis.
    """
    num_rows = 2 * max(num_q, num_k) - 1
    if len(table) != num_rows:
        table = F.interpolate(table.T[None], num_rows, mode="linear", align_corners=False)[0].T
    step_q, step_k = max(num_k / num_q, 1.0), max(num_q / num_k, 1.0)
    at_q = torch.arange(num_q, device=table.device)[:, None] * step_q
    at_k = torch.arange(num_k, device=table.device)[None] * step_k
    distance = at_q - at_k
    distance += (num_k - 1) * step_k
    return table[distance.long()]
