"""Attention of a block by the way in which its keys and values become fewer."""

from __future__ import annotations

from mvit_video.models.architecture import KVReduction
from mvit_video.nn import (
    LinearSpatialReduction,
    PoolingAttention,
    ReducedAttention,
    RelativePosition,
    SpatialReduction,
    TokenPool,
    Uneven,
)
from mvit_video.types import THW


def make_attention(
    reduction: KVReduction,
    dim: int,
    dim_out: int,
    num_heads: int,
    *,
    stride_kv: THW,
    kernel_kv: THW | None,
    pool_q: TokenPool | None = None,
    rel_pos: RelativePosition | None = None,
    residual_pooling: bool = False,
    uneven: Uneven = "pad",
    norm_eps: float = 1e-6,
) -> PoolingAttention | ReducedAttention:
    """Attention whose keys and values are pooled after their projection, or reduced before it.

    Args:
        stride_kv: cells of the input's grid that become one, also where the queries are pooled.
        kernel_kv: of the pool or of PVT's convolution; None for neither.
        uneven: what PVT's convolution does with a grid that its stride does not divide.
        norm_eps: of the norms after the pools of keys and values.

    The others are those of the two classes.
    """
    if reduction in ("sra", "linear_sra"):
        if reduction == "linear_sra":
            reduce = LinearSpatialReduction(dim)
        else:
            reduce = SpatialReduction(dim, stride_kv, uneven) if kernel_kv else None
        return ReducedAttention(
            dim, dim_out, num_heads, reduction=reduce, pool_q=pool_q, rel_pos=rel_pos, residual_pooling=residual_pooling
        )
    pool_k, pool_v = (
        TokenPool(reduction, dim_out // num_heads, num_heads, kernel_kv, stride_kv, norm_eps) if kernel_kv else None
        for _ in "kv"
    )
    return PoolingAttention(
        dim,
        dim_out,
        num_heads,
        pool_q=pool_q,
        pool_k=pool_k,
        pool_v=pool_v,
        rel_pos=rel_pos,
        residual_pooling=residual_pooling,
    )
