"""Multiscale transformer block, MLP, stochastic depth and classification head."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.attention import PoolingAttention, ReducedAttention
from mvit_video.nn.pooling import TokenPool, pool_tokens
from mvit_video.nn.position import PositionEncodingGenerator
from mvit_video.types import THW


class DropPath(nn.Module):
    """Stochastic depth: in training, drop the residual branch of some samples and scale up the others.

    Args:
        rate: probability of dropping, in [0, 1).

    Source: Deep Networks with Stochastic Depth (arXiv:1603.09382).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"drop path rate must be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        if self.rate == 0 or not self.training:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        return f"{self.rate:g}"


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden: int, dim_out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim_out)

    def forward(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim_out"]:
        return self.fc2(self.act(self.fc1(x)))


class MultiscaleBlock(nn.Module):
    """Pre-norm transformer block that may coarsen the grid in attention and widen the channels in its MLP.

    The skip around attention is max-pooled with the stride of the queries. Where attention or the MLP widens, its skip
    projects the *normalised* tokens, which the paper found better (table A.1).

    Args:
        attention: from `dim` to `dim_attention` channels.
        dim_attention: channels between attention and MLP; above `dim` in the first block of a stage of MViTv2.
        dim_out: channels out; above `dim_attention` in the last block of a stage of MViT.
        mlp: from `dim_attention` to `dim_out` channels; None for an `Mlp` with four times as many hidden channels.
        pool_skip: pool of the skip around attention, None where the queries keep their grid.
        peg: position encodings added to the output; None for none.
        drop_path_rate: probability of dropping each residual branch of a sample.

    Source: MViT (arXiv:2104.11227) section 3.2, MViTv2 (arXiv:2112.01526) section 4; agrees with
    torchvision and pytorchvideo (tests/models/families/mvit/test_parity.py).
    """

    def __init__(
        self,
        attention: PoolingAttention | ReducedAttention,
        dim: int,
        dim_attention: int,
        dim_out: int,
        *,
        mlp: nn.Module | None = None,
        pool_skip: TokenPool | None = None,
        peg: PositionEncodingGenerator | None = None,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attention
        self.pool_skip = pool_skip
        self.norm2 = nn.LayerNorm(dim_attention, eps=1e-6)
        self.mlp = Mlp(dim_attention, 4 * dim_attention, dim_out) if mlp is None else mlp
        self.widens_in_attention = dim != dim_attention
        self.proj = nn.Linear(dim, dim_out) if dim != dim_out else None
        self.peg = peg
        self.drop_path = DropPath(drop_path_rate)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], thw: THW
    ) -> tuple[Float[Tensor, "batch pooled dim_out"], THW]:
        normed = self.norm1(x)
        skip = self.proj(normed) if self.proj is not None and self.widens_in_attention else x
        skip, _ = pool_tokens(self.pool_skip, skip, thw)
        attended, thw = self.attn(normed, thw)
        x = self.second_half(skip + self.drop_path(attended), thw)
        return (x if self.peg is None else self.peg(x, thw)), thw

    def second_half(self, x: Float[Tensor, "*tokens dim_attention"], thw: THW) -> Float[Tensor, "*tokens dim_out"]:
        """Add the MLP and its skip to the output of attention, token by token."""
        normed = self.norm2(x)
        skip = self.proj(normed) if self.proj is not None and not self.widens_in_attention else x
        return skip + self.drop_path(self.mlp(normed))


class ClassificationHead(nn.Module):
    """Dropout and a linear layer; logits in training and evaluation alike, never a softmax.

    Args:
        dropout: probability of dropping a channel in training.
    """

    def __init__(self, dim: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(dim, num_classes)

    def forward(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        return self.projection(self.dropout(embedding))
