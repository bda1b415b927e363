"""Tokens and grids: the only place where their layouts are converted.

Tokens are `(batch, 1 + T*H*W, channels)`, the class token first and the cells in t, h, w order; image models may have
no class token. Because channels come last in both, a grid is a view of its tokens in the memory format
`channels_last_3d`: no function here copies.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mvit_video.types import THW


def split_class_token(
    tokens: Float[Tensor, "batch tokens *rest"], thw: THW
) -> tuple[Float[Tensor, "batch 1 *rest"] | None, Float[Tensor, "batch cells *rest"]]:
    """Split tokens into the class token, None where there is none, and the patch tokens."""
    if tokens.shape[1] == thw.volume:
        return None, tokens
    return tokens[:, :1], tokens[:, 1:]


def tokens_to_grid(tokens: Float[Tensor, "batch cells dim"], thw: THW) -> Float[Tensor, "batch dim t h w"]:
    """View patch tokens, class token excluded, as a volume."""
    return tokens.unflatten(1, thw).permute(0, 4, 1, 2, 3)


def grid_to_tokens(grid: Float[Tensor, "batch dim t h w"]) -> tuple[Float[Tensor, "batch cells dim"], THW]:
    """View a `channels_last_3d` volume as patch tokens, and return its size; another memory format is copied."""
    return grid.permute(0, 2, 3, 4, 1).flatten(1, 3), THW(*grid.shape[2:])


def through_map(
    tokens: Float[Tensor, "batch tokens dim"], thw: THW
) -> tuple[Float[Tensor, "batch tokens dim"], Float[Tensor, "batch dim t h w"]]:
    """Return tokens made from the map of their patch tokens, and that map, so that later gradients reach it."""
    class_token, patches = split_class_token(tokens, thw)
    grid = tokens_to_grid(patches, thw)
    patches, _ = grid_to_tokens(grid)
    return (patches if class_token is None else torch.cat([class_token, patches], dim=1)), grid
