"""From an architecture stated by stage to the table of its blocks: pure and printable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from mvit_video.nn.pooling import PoolMode
from mvit_video.types import THW

UNIT = THW(1, 1, 1)


@dataclass(frozen=True)
class Pooling:
    """How attention pools: once for a whole model.

    Attributes:
        mode: convolution, maximum or average.
        kernel: of every pool of queries, keys and values; None makes each one larger than its stride where the
            stride is above 1.
        stride_q: of the queries in the first block of every stage but the first.
        stride_kv: of keys and values in the first block.
        adaptive_kv_stride: divide `stride_kv` by each query stride met, so that the pooled grid keeps its size.
    """

    mode: PoolMode = "conv"
    kernel: tuple[int, int, int] | None = (3, 3, 3)
    stride_q: tuple[int, int, int] = (1, 2, 2)
    stride_kv: tuple[int, int, int] | None = (1, 8, 8)
    adaptive_kv_stride: bool = True


@dataclass(frozen=True)
class BlockSpec:
    """One block: widths, heads, and the pools of its attention, None where there is no pool."""

    dim: int
    dim_out: int
    num_heads: int
    stride_q: THW
    kernel_q: THW | None
    stride_kv: THW
    kernel_kv: THW | None


def pool_kernel(stride: THW, kernel: tuple[int, int, int] | None) -> THW | None:
    """Kernel of a pool of this stride: the given one, or else `stride + 1` where `stride` is above 1.

    None when nothing is left to pool, that is when kernel and stride are both 1.
    """
    chosen = THW(*kernel) if kernel else THW(*(s + 1 if s > 1 else 1 for s in stride))
    return None if chosen == stride == UNIT else chosen


def block_table(depths: Sequence[int], embed_dim: int, num_heads: int, pooling: Pooling) -> tuple[BlockSpec, ...]:
    """Blocks of an MViT in order.

    Each stage after the first starts by pooling the queries, has twice the heads of the one before and twice its
    channels, which the last block of the stage before widens to.

    Args:
        depths: blocks in each stage.
        embed_dim: channels of the first stage.
        num_heads: heads of the first stage.

    Source: MViT (arXiv:2104.11227) section 3.2 and table 3; equal to the published tables
    (tests/models/test_architecture.py).
    """
    starts = list(accumulate(depths, initial=0))
    num_blocks = starts.pop()
    stride_kv = THW(*pooling.stride_kv) if pooling.stride_kv else None
    table, stage = [], -1
    for index in range(num_blocks):
        stride_q = UNIT
        if index in starts:
            stage += 1
            if stage:
                stride_q = THW(*pooling.stride_q)
        if stride_kv and pooling.adaptive_kv_stride:
            stride_kv = THW(*(max(kv // q, 1) for kv, q in zip(stride_kv, stride_q, strict=True)))
        widen = 2 if index + 1 in starts else 1
        table.append(
            BlockSpec(
                dim=embed_dim << stage,
                dim_out=widen * embed_dim << stage,
                num_heads=num_heads << stage,
                stride_q=stride_q,
                kernel_q=pool_kernel(stride_q, pooling.kernel) if stride_q != UNIT else None,
                stride_kv=stride_kv or UNIT,
                kernel_kv=pool_kernel(stride_kv, pooling.kernel) if stride_kv else None,
            )
        )
    return tuple(table)
