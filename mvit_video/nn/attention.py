"""Multi-head pooling attention."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.pooling import TokenPool, pool_tokens
from mvit_video.types import THW


class PoolingAttention(nn.Module):
    """Self-attention whose queries, keys and values are pooled over the grid after their projection.

    The pooled queries set the grid of the output; the pooled keys and values set the cost.

    Args:
        dim: channels in and out, a multiple of `num_heads`.
        pool_q: pool of the queries, None where they keep their grid.
        pool_k: pool of the keys, None likewise.
        pool_v: pool of the values, of the same stride as `pool_k`.

    Source: MViT (arXiv:2104.11227) section 3.1; agrees with torchvision and pytorchvideo (tests/models/test_parity.py).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        pool_q: TokenPool | None = None,
        pool_k: TokenPool | None = None,
        pool_v: TokenPool | None = None,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim must be a multiple of num_heads, got {dim=} and {num_heads=}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.pool_q, self.pool_k, self.pool_v = pool_q, pool_k, pool_v
        self.proj = nn.Linear(dim, dim)

    def _heads(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch heads tokens head_dim"]:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, x: Float[Tensor, "batch tokens dim"], thw: THW) -> tuple[Float[Tensor, "batch pooled dim"], THW]:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, thw_q = pool_tokens(self.pool_q, q, thw)
        k, _ = pool_tokens(self.pool_k, k, thw)
        v, _ = pool_tokens(self.pool_v, v, thw)
        x = F.scaled_dot_product_attention(self._heads(q), self._heads(k), self._heads(v))
        return self.proj(x.transpose(1, 2).flatten(2)), thw_q
