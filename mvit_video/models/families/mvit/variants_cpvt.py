"""Builders of CPVT (arXiv:2102.10882): an MViT of one stage without pooling, with PEGs instead of a table."""

from __future__ import annotations

from typing import Any

from mvit_video.models.architecture import Patch, Pooling
from mvit_video.models.families.mvit.net import MViT
from mvit_video.models.families.mvit.variants import mvit
from mvit_video.models.position import Position


def cpvt(
    *,
    num_classes: int = 1000,
    num_frames: int = 1,
    depths: tuple[int, ...] = (12,),
    embed_dim: int = 192,
    num_heads: int = 3,
    patch: Patch = Patch((1, 16, 16), (1, 16, 16)),
    pooling: Pooling = Pooling(kernel=None, stride_kv=None),
    position: Position = "peg",
    drop_path_rate: float = 0.1,
    dropout: float = 0.0,
    **overrides: Any,
) -> MViT:
    """Any CPVT; by default CPVT-Ti for images.

    Args:
        position: one or more kinds of position encoding, see `kinds_of`.
        **overrides: other arguments of `mvit`.

    Source: CPVT (arXiv:2102.10882) table 2.
    """
    return mvit(
        num_classes=num_classes,
        num_frames=num_frames,
        depths=depths,
        embed_dim=embed_dim,
        num_heads=num_heads,
        patch=patch,
        pooling=pooling,
        position=position,
        drop_path_rate=drop_path_rate,
        dropout=dropout,
        **overrides,
    )


def cpvt_ti(**overrides: Any) -> MViT:
    """CPVT-Ti."""
    return cpvt(**overrides)


def cpvt_ti_plus(*, position: Position = "peg_first_five", **overrides: Any) -> MViT:
    """CPVT-Ti with five PEGs."""
    return cpvt(position=position, **overrides)


def cpvt_ti_gap(*, class_token: bool = False, **overrides: Any) -> MViT:
    """CPVT-Ti with five PEGs and without class token."""
    return cpvt_ti_plus(class_token=class_token, **overrides)


def cpvt_s(*, embed_dim: int = 384, num_heads: int = 6, **overrides: Any) -> MViT:
    """CPVT-S."""
    return cpvt(embed_dim=embed_dim, num_heads=num_heads, **overrides)


def cpvt_s_plus(*, position: Position = "peg_first_five", **overrides: Any) -> MViT:
    """CPVT-S with five PEGs."""
    return cpvt_s(position=position, **overrides)


def cpvt_s_gap(*, class_token: bool = False, **overrides: Any) -> MViT:
    """CPVT-S with five PEGs and without class token."""
    return cpvt_s_plus(class_token=class_token, **overrides)


def cpvt_b(*, embed_dim: int = 768, num_heads: int = 12, **overrides: Any) -> MViT:
    """CPVT-B."""
    return cpvt(embed_dim=embed_dim, num_heads=num_heads, **overrides)


def cpvt_b_plus(*, position: Position = "peg_first_five", **overrides: Any) -> MViT:
    """CPVT-B with five PEGs."""
    return cpvt_b(position=position, **overrides)


def cpvt_b_gap(*, class_token: bool = False, **overrides: Any) -> MViT:
    """CPVT-B with five PEGs and without class token."""
    return cpvt_b_plus(class_token=class_token, **overrides)
