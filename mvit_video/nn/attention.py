"""Multi-head pooling attention.

Letters: B clips, N heads, Q pooled query tokens, K pooled key tokens, D head dim, P heights, widths and times of keys.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.grid import split_class_token
from mvit_video.nn.pooling import TokenPool, pool_tokens
from mvit_video.nn.position import RelativePosition
from mvit_video.types import THW


class PoolingAttention(nn.Module):
    """Self-attention whose queries, keys and values are pooled over the grid after their projection.

    The pooled queries set the grid of the output; the pooled keys and values set the cost.

    Args:
        dim: channels in.
        dim_out: channels of queries, keys, values and out, a multiple of `num_heads`.
        pool_q: pool of the queries, None where they keep their grid.
        pool_k: pool of the keys, None likewise.
        pool_v: pool of the values, of the same stride as `pool_k`.
        rel_pos: relative positions, None for none.
        residual_pooling: add the pooled queries to the output, the class token excepted.

    Source: MViT (arXiv:2104.11227) section 3.1 and MViTv2 (arXiv:2112.01526) section 4.1, eq. 4 for residual pooling;
    agrees with torchvision and pytorchvideo (tests/models/test_parity.py).
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
        super().__init__()
        if dim_out % num_heads:
            raise ValueError(f"dim_out must be a multiple of num_heads, got {dim_out=} and {num_heads=}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.pool_q, self.pool_k, self.pool_v = pool_q, pool_k, pool_v
        self.rel_pos = rel_pos
        self.residual_pooling = residual_pooling
        self.proj = nn.Linear(dim_out, dim_out)

    def _heads(self, tokens: Float[Tensor, "B L C"]) -> Float[Tensor, "B N L D"]:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], thw: THW
    ) -> tuple[Float[Tensor, "batch pooled dim_out"], THW]:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        pooled_q, thw_q = pool_tokens(self.pool_q, q, thw)
        k, thw_k = pool_tokens(self.pool_k, k, thw)
        v, _ = pool_tokens(self.pool_v, v, thw)
        q, k, v = self._heads(pooled_q), self._heads(k), self._heads(v)
        if self.rel_pos is None:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = attend_with_positions(q, k, v, *self.rel_pos(q, thw_q, thw_k))
        x = x.transpose(1, 2).flatten(2)
        if self.residual_pooling:
            x = _add_patches(x, pooled_q, thw_q)
        return self.proj(x), thw_q


def attend_with_positions(
    q: Float[Tensor, "B N Q D"],
    k: Float[Tensor, "B N K D"],
    v: Float[Tensor, "B N K D"],
    q_positions: Float[Tensor, "B N Q P"],
    k_positions: Float[Tensor, "K P"],
) -> Float[Tensor, "B N Q D"]:
    """Attention with the scores `q @ k.mT / sqrt(D) + q_positions @ k_positions.mT`.

    The second term rides in the first as further channels, so that fused attention serves and no score matrix is made;
    faster than the sum as a mask in every case of scripts/bench_attention.py.
    """
    if q.is_meta:  # where operations are counted, not done: those of the definition, whose second term only adds
        return F.scaled_dot_product_attention(q, k, v, attn_mask=q.new_empty(q.shape[2], k.shape[2]))
    num_positions = k_positions.shape[-1]
    q = torch.cat([q * q.shape[-1] ** -0.5, q_positions], dim=-1)
    k = torch.cat([k, k_positions.expand(*k.shape[:2], -1, -1)], dim=-1)
    # fused kernels want values as wide as keys
    return F.scaled_dot_product_attention(q, k, F.pad(v, (0, num_positions)), scale=1.0)[..., : v.shape[-1]]


def _add_patches(x: Tensor, pooled_q: Tensor, thw: THW) -> Tensor:
    """`x + pooled_q`, the class token's row as it is."""
    class_token, patches = split_class_token(x, thw)
    _, pooled_q = split_class_token(pooled_q, thw)
    patches = patches + pooled_q
    return patches if class_token is None else torch.cat([class_token, patches], dim=1)
