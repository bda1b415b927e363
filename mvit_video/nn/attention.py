"""Multi-head attention with pooled queries, and with keys and values pooled or reduced.

Letters: B clips, N heads, D head dim, C = N*D channels, Q pooled query tokens, K pooled key tokens, P heights, widths
and times of keys, W = D or D+P.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.grid import join_class_token, split_class_token
from mvit_video.nn.pooling import TokenPool, pool_tokens
from mvit_video.nn.position import RelativePosition
from mvit_video.nn.spatial_reduction import KVReduction, LinearSpatialReduction, SpatialReduction, Uneven
from mvit_video.types import THW


class DotProductAttention(nn.Module):
    """Scaled dot-product attention; queries and keys may have more channels (relative positions) than the values.

    These channels do not count in the scale of the scores.
    """

    def forward(
        self, q: Float[Tensor, "B N Q W"], k: Float[Tensor, "B N K W"], v: Float[Tensor, "B N K D"]
    ) -> Float[Tensor, "B N Q D"]:
        dim = v.shape[-1]
        if surplus := k.shape[-1] - dim:
            v = F.pad(v, (0, surplus))  # fused kernels want values as wide as keys
        return F.scaled_dot_product_attention(q, k, v, scale=dim**-0.5)[..., :dim]


class _MultiheadAttention(nn.Module):
    """Heads, residual pooling and output projection, which both kinds of attention share."""

    rel_pos: RelativePosition | None
    residual_pooling: bool
    proj: nn.Linear

    def __init__(self, dim_out: int, num_heads: int) -> None:
        super().__init__()
        if dim_out % num_heads:
            raise ValueError(f"dim_out must be a multiple of num_heads, got {dim_out=} and {num_heads=}")
        self.num_heads = num_heads
        self.attend = DotProductAttention()

    def _mix(
        self,
        pooled_q: Float[Tensor, "B Q C"],
        k: Float[Tensor, "B K C"],
        v: Float[Tensor, "B K C"],
        thw_q: THW,
        thw_k: THW,
    ) -> Float[Tensor, "B Q C"]:
        q, k, v = (tokens.unflatten(-1, (self.num_heads, -1)) for tokens in (pooled_q, k, v))
        if self.rel_pos is not None:
            q, k = self.rel_pos(q, k, thw_q, thw_k)
        x = self.attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2).flatten(2)
        return self.proj(_add_patches(x, pooled_q, thw_q) if self.residual_pooling else x)


class PoolingAttention(_MultiheadAttention):
    """Self-attention whose queries, keys and values are pooled over the grid after their projection.

    The pooled queries set the grid of the output; the pooled keys and values set the cost.

    Args:
        dim_out: channels of queries, keys, values and out, a multiple of `num_heads`.
        pool_q: pool of the queries, None where they keep their grid.
        pool_k: pool of the keys, None where they keep theirs.
        pool_v: pool of the values, of the same stride as `pool_k`.
        rel_pos: relative positions, None for none.
        residual_pooling: add the pooled queries to the output, the class token excepted.

    Source: MViT (arXiv:2104.11227) section 3.1 and MViTv2 (arXiv:2112.01526) section 4.1, eq. 4 for residual pooling;
    agrees with torchvision and pytorchvideo (tests/models/families/mvit/test_parity.py).
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        *,
        pool_q: TokenPool | None = None,
        pool_k: TokenPool | None = None,
        pool_v: TokenPool | None = None,
        rel_pos: RelativePosition | None = None,
        residual_pooling: bool = False,
    ) -> None:
        super().__init__(dim_out, num_heads)
        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.pool_q, self.pool_k, self.pool_v = pool_q, pool_k, pool_v
        self.rel_pos = rel_pos
        self.residual_pooling = residual_pooling
        self.proj = nn.Linear(dim_out, dim_out)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], thw: THW
    ) -> tuple[Float[Tensor, "batch pooled dim_out"], THW]:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, thw_q = pool_tokens(self.pool_q, q, thw)
        k, thw_k = pool_tokens(self.pool_k, k, thw)
        v, _ = pool_tokens(self.pool_v, v, thw)
        return self._mix(q, k, v, thw_q, thw_k), thw_q


class ReducedAttention(_MultiheadAttention):
    """Self-attention whose keys and values are projections of the same, reduced tokens.

    `PoolingAttention` pools keys and values separately, head by head, after their projection.

    Args:
        reduction: from the tokens and their grid to fewer tokens; None for plain multi-head attention.

    The others are those of `PoolingAttention`.

    Source: PVT (arXiv:2102.12122) section 3.3, eq. 2; agrees with timm's Twins-PCPVT
    (tests/models/families/pvt/test_pvt_parity.py).
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        *,
        reduction: SpatialReduction | LinearSpatialReduction | None = None,
        pool_q: TokenPool | None = None,
        rel_pos: RelativePosition | None = None,
        residual_pooling: bool = False,
    ) -> None:
        super().__init__(dim_out, num_heads)
        self.q = nn.Linear(dim, dim_out)
        self.reduction = reduction
        self.kv = nn.Linear(dim, 2 * dim_out)
        self.pool_q, self.rel_pos = pool_q, rel_pos
        self.residual_pooling = residual_pooling
        self.proj = nn.Linear(dim_out, dim_out)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], thw: THW
    ) -> tuple[Float[Tensor, "batch pooled dim_out"], THW]:
        q, thw_q = pool_tokens(self.pool_q, self.q(x), thw)
        reduced, thw_k = (x, thw) if self.reduction is None else self.reduction(x, thw)
        k, v = self.kv(reduced).chunk(2, dim=-1)
        return self._mix(q, k, v, thw_q, thw_k), thw_q


def _add_patches(x: Tensor, pooled_q: Tensor, thw: THW) -> Tensor:
    """Return `x + pooled_q`, with the class token's row unchanged."""
    class_token, patches = split_class_token(x, thw)
    return join_class_token(class_token, patches + split_class_token(pooled_q, thw)[1])


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
    """Return attention whose keys and values are pooled after their projection, or reduced before it.

    Args:
        stride_kv: cells of the input's grid that become one.
        kernel_kv: of the pool or of PVT's convolution; None for neither.
        uneven: see `SpatialReduction`.
        norm_eps: of the norms after the pools of keys and values.
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
