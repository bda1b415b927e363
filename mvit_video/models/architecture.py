"""Architecture by stage, and the table of blocks made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import get_args

from mvit_video.nn import KVReduction, PoolMode
from mvit_video.types import THW, ConfigError

UNIT = THW(1, 1, 1)


@dataclass(frozen=True)
class Patch:
    """Cubes that the stem embeds.

    Attributes:
        kernel: size in frames and pixels.
        stride: distance from one cube to the next.
    """

    kernel: tuple[int, int, int] = (3, 7, 7)
    stride: tuple[int, int, int] = (2, 4, 4)

    def __post_init__(self) -> None:
        if min(*self.kernel, *self.stride) < 1:
            raise ConfigError(f"patch.kernel and patch.stride must be at least 1, got {self.kernel} and {self.stride}")


@dataclass(frozen=True)
class Pooling:
    """Pooling of attention in all blocks of a model.

    Attributes:
        mode: convolution, maximum or average.
        kernel: of all pools of queries, keys and values; None for stride + 1 where the stride is above 1.
        stride_q: of the queries in the first block of each stage after the first.
        stride_kv: of keys and values in the first block.
        adaptive_kv_stride: divide `stride_kv` by each stride of queries before, so that the pooled grid keeps its size.
        kv_at_stride_1: if `kernel` is given, pool keys and values where their stride is 1 too; the first published
            MViT-B 16x4 did not.
        q_everywhere: pool the queries in every block, with stride 1 where the grid stays (MViTv2).
        residual: add the pooled queries to the output of attention (MViTv2).
        kv_reduction: reduction of keys and values: `conv`, `max` or `avg` pool each after its projection, head by head;
            `sra` (PVT: a convolution as large as its stride) and `linear_sra` (PVTv2: an average over a plane of fixed
            size) reduce both together before it; None is `mode`.
        norm_eps: of the norms after the pools; 1e-6 in SlowFast and torchvision, 1e-5 in pytorchvideo 0.1.5.
    """

    mode: PoolMode = "conv"
    kernel: tuple[int, int, int] | None = (3, 3, 3)
    stride_q: tuple[int, int, int] = (1, 2, 2)
    stride_kv: tuple[int, int, int] | None = (1, 8, 8)
    adaptive_kv_stride: bool = True
    kv_at_stride_1: bool = True
    q_everywhere: bool = False
    residual: bool = False
    kv_reduction: KVReduction | None = None
    norm_eps: float = 1e-6

    @property
    def reduction(self) -> KVReduction:
        """Kind of the reduction of keys and values."""
        return self.kv_reduction or self.mode

    def __post_init__(self) -> None:
        check_reduction("pooling.kv_reduction", self.kv_reduction)
        if self.kernel and any(size % 2 == 0 for size in self.kernel):
            raise ConfigError(f"pooling.kernel must be odd, so that all pools of a block agree, got {self.kernel}")
        for name in ("kernel", "stride_q", "stride_kv"):
            value = getattr(self, name)
            if value and min(value) < 1:
                raise ConfigError(f"pooling.{name} must be at least 1, got {value}")
        if not 0 < self.norm_eps < 1:
            raise ConfigError(f"pooling.norm_eps must be between 0 and 1, got {self.norm_eps}")


def check_reduction(key: str, kind: str | None) -> None:
    """Refuse a name that is not a `KVReduction`."""
    if kind is not None and kind not in get_args(KVReduction):
        raise ConfigError(f"{key} must be one of {', '.join(get_args(KVReduction))}, got {kind!r}")


@dataclass(frozen=True)
class BlockSpec:
    """Widths and heads of a block, and the pools of its attention; a kernel of None is no pool."""

    dim: int
    dim_attention: int
    dim_out: int
    num_heads: int
    stride_q: THW
    kernel_q: THW | None
    stride_kv: THW
    kernel_kv: THW | None


def pool_kernel(stride: THW, kernel: tuple[int, int, int] | None, at_stride_1: bool) -> THW | None:
    """Return the kernel of a pool: the given one, else `stride + 1` where `stride` is above 1; None for no pool.

    There is none with kernel and stride both 1, nor with stride 1 unless `at_stride_1`.
    """
    chosen = THW(*kernel) if kernel else THW(*(s + 1 if s > 1 else 1 for s in stride))
    if stride == UNIT and (chosen == UNIT or not at_stride_1):
        return None
    return chosen


def reduction_kernel(
    reduction: KVReduction, stride: THW, kernel: tuple[int, int, int] | None = None, at_stride_1: bool = False
) -> THW | None:
    """Return the kernel of a reduction of keys and values, see `Pooling` and `pool_kernel`; None for no kernel."""
    if reduction == "linear_sra" or (reduction == "sra" and stride == UNIT):
        return None
    return stride if reduction == "sra" else pool_kernel(stride, kernel, at_stride_1)


def block_table(
    depths: Sequence[int], embed_dim: int, num_heads: int, pooling: Pooling, *, expand_in_attention: bool = False
) -> tuple[BlockSpec, ...]:
    """Return the blocks of an MViT in order.

    Each stage after the first begins by pooling the queries, and has twice the heads and channels of the previous one.

    Args:
        depths: blocks in each stage.
        embed_dim: channels of the first stage.
        num_heads: heads of the first stage.
        expand_in_attention: widen in the attention of a stage's first block (MViTv2) instead of the MLP before it.

    Source: MViT (arXiv:2104.11227) section 3.2 and table 3, MViTv2 (arXiv:2112.01526) section 4.2; equal to the
    published tables (tests/models/test_architecture.py).
    """
    if not depths or min(depths) < 1:
        raise ConfigError(f"depths must give every stage a block, got {tuple(depths)}")
    if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
        raise ConfigError(f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}")
    starts = list(accumulate(depths, initial=0))
    num_blocks = starts.pop()
    reduction = pooling.reduction
    stride_kv = THW(*pooling.stride_kv) if pooling.stride_kv and reduction != "linear_sra" else None
    table, stage = [], -1
    for index in range(num_blocks):
        stride_q = UNIT
        if index in starts:
            stage += 1
            if stage:
                stride_q = THW(*pooling.stride_q)
        if stride_kv and pooling.adaptive_kv_stride:
            stride_kv = THW(*(max(kv // q, 1) for kv, q in zip(stride_kv, stride_q, strict=True)))
        dim = embed_dim << stage
        starts_wide = expand_in_attention and stage > 0 and index in starts
        ends_wide = not expand_in_attention and index + 1 in starts
        table.append(
            BlockSpec(
                dim=dim // 2 if starts_wide else dim,
                dim_attention=dim,
                dim_out=dim * 2 if ends_wide else dim,
                num_heads=num_heads << stage,
                stride_q=stride_q,
                kernel_q=pool_kernel(stride_q, pooling.kernel, at_stride_1=pooling.q_everywhere),
                stride_kv=stride_kv or UNIT,
                kernel_kv=stride_kv and reduction_kernel(reduction, stride_kv, pooling.kernel, pooling.kv_at_stride_1),
            )
        )
    return tuple(table)
