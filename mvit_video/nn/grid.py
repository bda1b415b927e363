"""Tokens and grids: the only place where one becomes the other.

Tokens are `(batch, 1 + T*H*W, channels)`: the class token, if there is one, and the cells in t, h, w order. A grid is
a view of its tokens in the memory format `channels_last_3d`, so nothing is copied.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mvit_video.types import THW


def split_class_token(
    tokens: Float[Tensor, "batch tokens *rest"], thw: THW
) -> tuple[Float[Tensor, "batch 1 *rest"] | None, Float[Tensor, "batch cells *rest"]]:
    """Split tokens into the class token (None without one) and the patch tokens."""
    if tokens.shape[1] == thw.volume:
        return None, tokens
    return tokens[:, :1], tokens[:, 1:]


def join_class_token(
    class_token: Float[Tensor, "batch 1 dim"] | None, patches: Float[Tensor, "batch cells dim"]
) -> Float[Tensor, "batch tokens dim"]:
    """Put a class token, if there is one, before patch tokens; the reverse of `split_class_token`."""
    return patches if class_token is None else torch.cat([class_token, patches], dim=1)


def tokens_to_grid(tokens: Float[Tensor, "batch cells dim"], thw: THW) -> Float[Tensor, "batch dim t h w"]:
    """Return patch tokens (no class token) as a volume, without a copy."""
    return tokens.unflatten(1, thw).permute(0, 4, 1, 2, 3)


def grid_to_tokens(grid: Float[Tensor, "batch dim t h w"]) -> tuple[Float[Tensor, "batch cells dim"], THW]:
    """Return a volume as patch tokens, and its size; only a volume that is not `channels_last_3d` is copied."""
    return grid.permute(0, 2, 3, 4, 1).flatten(1, 3), THW(*grid.shape[2:])


def through_map(
    tokens: Float[Tensor, "batch tokens dim"], thw: THW
) -> tuple[Float[Tensor, "batch tokens dim"], Float[Tensor, "batch dim t h w"]]:
    """Return the map of patch tokens, and the tokens made from it again, so that later gradients reach the map."""
    class_token, patches = split_class_token(tokens, thw)
    grid = tokens_to_grid(patches, thw)
    return join_class_token(class_token, grid_to_tokens(grid)[0]), grid
