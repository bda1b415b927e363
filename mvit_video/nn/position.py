"""Position encodings: learned tables, absolute and relative, resized for another grid, and convolutions (PEG)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.depthwise import Borders, DepthwiseConv3d
from mvit_video.nn.gradients import widen_queries
from mvit_video.nn.grid import grid_to_tokens, join_class_token, split_class_token, tokens_to_grid
from mvit_video.types import THW

Resize = Literal["bicubic", "bilinear"]


def _table(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))


def resize_plane(table: Tensor, found: tuple[int, int], size: tuple[int, int], mode: Resize) -> Tensor:
    """Return a table `(1, h*w, C)` over the grid `found` for the grid `size`."""
    plane = table.mT.unflatten(-1, found)
    return F.interpolate(plane, size, mode=mode, align_corners=False).flatten(2).mT


def resize_line(table: Tensor, num_rows: int) -> Tensor:
    """Return a table `(1, rows, C)` along an axis with another number of rows, linearly."""
    return F.interpolate(table.mT, num_rows, mode="linear", align_corners=False).mT


def resize_joint(table: Tensor, found: THW, thw: THW) -> Tensor:
    """Return a table `(1, T*H*W, C)` for another grid, trilinearly; rows before the cells (class token) stay."""
    class_token, cells = table.tensor_split([table.shape[1] - found.volume], dim=1)
    cells, _ = grid_to_tokens(F.interpolate(tokens_to_grid(cells, found), thw, mode="trilinear", align_corners=False))
    return torch.cat([class_token, cells], dim=1)


class SeparablePosition(nn.Module):
    """Table over space plus table over time, and a row for the class token.

    For another grid the spatial table is resized in its plane and the temporal one linearly.

    Args:
        resize: of the spatial table: bicubic in MViT, bilinear in PVT.

    Source: MViT (arXiv:2104.11227) section 3.3 and table 11, `pos_embed_spatial|temporal|class` of the published
    checkpoints.
    """

    def __init__(self, thw: THW, dim: int, *, class_token: bool = True, resize: Resize = "bicubic") -> None:
        super().__init__()
        self.thw = thw
        self.resize: Resize = resize
        self.spatial = _table(1, thw.h * thw.w, dim)
        self.temporal = _table(1, thw.t, dim)
        self.class_token = _table(1, 1, dim) if class_token else None

    def forward(self, thw: THW) -> Float[Tensor, "1 tokens dim"]:
        """Return rows for the class token, if there is one, and for every cell of the grid `thw`."""
        spatial, temporal = self.spatial, self.temporal
        if thw[1:] != self.thw[1:]:
            spatial = resize_plane(spatial, self.thw[1:], thw[1:], self.resize)
        if thw.t != self.thw.t:
            temporal = resize_line(temporal, thw.t)
        cells = (temporal[:, :, None] + spatial[:, None]).flatten(1, 2)
        return cells if self.class_token is None else torch.cat([self.class_token, cells], dim=1)


class JointPosition(nn.Module):
    """Table with a row for the class token and each cell, resized trilinearly for another grid.

    Source: MViT (arXiv:2104.11227) table 11, `pos_embed` of the published checkpoints; for images, where trilinear is
    bilinear, PVT (arXiv:2102.12122).
    """

    def __init__(self, thw: THW, dim: int, *, class_token: bool = True) -> None:
        super().__init__()
        self.thw = thw
        self.num_class_tokens = int(class_token)
        self.table = _table(1, self.num_class_tokens + thw.volume, dim)

    def forward(self, thw: THW) -> Float[Tensor, "1 tokens dim"]:
        """Return rows for the class token, if there is one, and for every cell of the grid `thw`."""
        if thw == self.thw:
            return self.table
        return resize_joint(self.table, self.thw, thw)


class RelativePosition(nn.Module):
    """Decomposed relative positions: a table per axis with a row per distance, shared by the heads of a block.

    Tables that do not have the length a grid needs are resized linearly at every pass, as in the reference: pooling
    rounds grids up, tables are sized by rounding down.

    Args:
        thw_q: grid of the pooled queries that the tables are built for.
        thw_k: grid of the pooled keys that the tables are built for.
        temporal: have a table over time; nets for images have none.

    Source: MViTv2 (arXiv:2112.01526) section 4.1, eq. 2 and 3; agrees with torchvision
    (tests/models/families/mvit/test_parity.py). As in SlowFast the term is not scaled, and not for the class token.
    """

    def __init__(self, thw_q: THW, thw_k: THW, head_dim: int, *, temporal: bool = True) -> None:
        super().__init__()
        rows = THW(*(2 * max(q, k) - 1 for q, k in zip(thw_q, thw_k, strict=True)))
        self.h, self.w = _table(rows.h, head_dim), _table(rows.w, head_dim)
        self.t = _table(rows.t, head_dim) if temporal else None

    def forward(
        self, q: Float[Tensor, "B Q N D"], k: Float[Tensor, "B K N D"], thw_q: THW, thw_k: THW
    ) -> tuple[Float[Tensor, "B Q N W"], Float[Tensor, "B K N W"]]:
        """Return queries and keys with P more channels, so that `q @ k.mT / sqrt(D)` includes the position term.

        In these channels a query holds its term for each height, width and time of the keys, and a key holds its place.
        Fused attention stays usable without a matrix of scores; this is faster than the term as a mask in every case of
        benchmarks/bench_attention.py.
        """
        tables = [(self.h, thw_q.h, thw_k.h), (self.w, thw_q.w, thw_k.w)]
        cells = torch.meshgrid([torch.arange(n, device=q.device) for n in thw_k], indexing="ij")
        places = [F.one_hot(cells[1].flatten(), thw_k.h), F.one_hot(cells[2].flatten(), thw_k.w)]
        if self.t is not None:
            tables.append((self.t, thw_q.t, thw_k.t))
            places.append(F.one_hot(cells[0].flatten(), thw_k.t))
        rows = [relative_rows(*table).to(q.dtype) for table in tables]
        by_key = torch.cat(places, dim=-1).to(q.dtype) * q.shape[-1] ** 0.5
        by_key = F.pad(by_key, (0, 0, k.shape[1] - thw_k.volume, 0))  # a class token has no place
        return widen_queries(q, rows, thw_q), torch.cat(
            [k, by_key[:, None].expand(k.shape[0], -1, k.shape[2], -1)], dim=-1
        )


def relative_rows(table: Float[Tensor, "distance dim"], num_q: int, num_k: int) -> Float[Tensor, "queries keys dim"]:
    """Return the row of each pair of a query and a key along one axis.

    On grids of different size the coarser one steps over as many cells as it pools; the first cells coincide. The order
    of operations is SlowFast's in float32: in another order a ratio such as 7.8 is truncated to another row.

    Args:
        num_q: cells of the queries along the axis.
        num_k: cells of the keys along the axis.
    """
    num_rows = 2 * max(num_q, num_k) - 1
    if len(table) != num_rows:
        table = resize_line(table[None], num_rows)[0]
    step_q, step_k = max(num_k / num_q, 1.0), max(num_q / num_k, 1.0)
    at_q = torch.arange(num_q, device=table.device)[:, None] * step_q
    at_k = torch.arange(num_k, device=table.device)[None] * step_k
    distance = at_q - at_k
    distance += (num_k - 1) * step_k
    return table[distance.long()]


class PositionEncodingGenerator(nn.Module):
    """Depthwise convolution added to the patch tokens (PEG); a class token passes unchanged.

    It has no table, so it fits any grid. Zero padding encodes the distance to the border; with circular borders the
    encoding is equivariant to shifts.

    Args:
        kernel: odd sizes; `(1, k, k)` for nets of images.
        borders: padding: zeros, or the other side of the grid.

    Source: CPVT (arXiv:2102.10882) section 3.2, in three dimensions; agrees with timm's Twins-PCPVT
    (tests/models/families/pvt/test_pvt_parity.py), identities in tests/nn/test_peg.py.
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
        return join_class_token(class_token, patches + encoding)
