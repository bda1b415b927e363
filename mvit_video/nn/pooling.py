"""Pooling of tokens over their grid: of queries, of keys and values, and of the residual skip.

Letters: B clips, N heads, D head dim, C = N*D channels.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.depthwise import HeadSharedConv3d, same_padding
from mvit_video.nn.grid import grid_to_tokens, join_class_token, split_class_token, tokens_to_grid
from mvit_video.types import THW

PoolMode = Literal["conv", "max", "avg"]


class TokenPool(nn.Module):
    """Pool of patch tokens over their grid; a class token passes unpooled.

    After convolution every head, class token included, is normalised over its own channels; max and average pooling
    have no norm.

    Args:
        head_dim: channels of a head, which convolution kernels and norm are sized by.
        norm_eps: added to the variance by the norm.

    Source: MViT (arXiv:2104.11227) section 3.1, eq. 1; agrees with torchvision and pytorchvideo
    (tests/models/families/mvit/test_parity.py).
    """

    def __init__(
        self, mode: PoolMode, head_dim: int, num_heads: int, kernel: THW, stride: THW, norm_eps: float = 1e-6
    ) -> None:
        super().__init__()
        padding = same_padding(kernel)
        self.num_heads = num_heads
        self.norm: nn.Module | None = None
        match mode:
            case "conv":
                self.pool = HeadSharedConv3d(head_dim, num_heads, kernel, stride)
                self.norm = nn.LayerNorm(head_dim, eps=norm_eps)
            case "max":
                self.pool = nn.MaxPool3d(kernel, stride, padding)
            case "avg":
                # padded before, because AvgPool3d refuses a grid smaller than its kernel
                t, h, w = padding
                self.pool = nn.Sequential(nn.ConstantPad3d((w, w, h, h, t, t), 0.0), nn.AvgPool3d(kernel, stride))
            case _:
                raise ValueError(f"pooling mode must be conv, max or avg, got {mode!r}")

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"], thw: THW
    ) -> tuple[Float[Tensor, "batch pooled dim"], THW]:
        class_token, patches = split_class_token(tokens, thw)
        patches, thw = grid_to_tokens(self.pool(tokens_to_grid(patches, thw)))
        tokens = join_class_token(class_token, patches)
        if self.norm is not None:
            tokens = self.norm(tokens.unflatten(-1, (self.num_heads, -1))).flatten(2)
        return tokens, thw


def pool_tokens(
    pool: TokenPool | None, tokens: Float[Tensor, "batch tokens dim"], thw: THW
) -> tuple[Float[Tensor, "batch pooled dim"], THW]:
    """Apply a pool; None keeps tokens and grid."""
    return (tokens, thw) if pool is None else pool(tokens, thw)
