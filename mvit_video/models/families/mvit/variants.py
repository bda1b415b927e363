"""Builders of MViT (arXiv:2104.11227) and CPVT (arXiv:2102.10882)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mvit_video.models.architecture import KVReduction, Patch, Pooling, block_table
from mvit_video.models.families.mvit.net import HeadPool, MViT
from mvit_video.models.net import builder
from mvit_video.models.position import Position


@builder
def mvit(
    *,
    num_classes: int = 400,
    num_frames: int = 16,
    crop_size: int = 224,
    depths: tuple[int, ...] = (1, 2, 11, 2),
    embed_dim: int = 96,
    num_heads: int = 1,
    patch: Patch = Patch(),
    pooling: Pooling = Pooling(),
    kv_reduction: KVReduction | None = None,
    position: Position = "separable",
    class_token: bool = True,
    head_pool: HeadPool | None = None,
    drop_path_rate: float = 0.2,
    dropout: float = 0.5,
) -> MViT:
    """Any MViT; by default MViT-B for 16 frames.

    Args:
        depths: blocks in each stage.
        embed_dim: channels of the first stage; each later stage doubles them.
        num_heads: heads of the first stage; each later stage doubles them.
        kv_reduction: replaces `pooling.kv_reduction`; None keeps it.
        position: one or more kinds of position encoding, see `kinds_of`.
        class_token: add a class token.
        head_pool: input of the head, see `MViT`.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        dropout: of the embedding before the classifier.

    Source: MViT (arXiv:2104.11227) table 3.
    """
    if kv_reduction:
        pooling = replace(pooling, kv_reduction=kv_reduction)
    return MViT(
        block_table(depths, embed_dim, num_heads, pooling),
        num_classes=num_classes,
        num_frames=num_frames,
        crop_size=crop_size,
        patch=patch,
        pooling=pooling,
        position=position,
        class_token=class_token,
        head_pool=head_pool,
        drop_path_rate=drop_path_rate,
        dropout=dropout,
    )


def mvit_b_16x4(**overrides: Any) -> MViT:
    """MViT-B, 16x4."""
    return mvit(**overrides)


def mvit_b_32x3(*, num_frames: int = 32, **overrides: Any) -> MViT:
    """MViT-B, 32x3; 16 blocks, as in the paper."""
    return mvit(num_frames=num_frames, **overrides)


def mvit_b_64x3(*, num_frames: int = 64, **overrides: Any) -> MViT:
    """MViT-B, 64x3, fine-tuned from 32x3."""
    return mvit(num_frames=num_frames, **overrides)


def mvit_b24_32x3(
    *,
    num_frames: int = 32,
    depths: tuple[int, ...] = (2, 3, 16, 3),
    pooling: Pooling = Pooling(kernel=None),
    drop_path_rate: float = 0.3,
    **overrides: Any,
) -> MViT:
    """MViT-B-24, 32x3; kernels of stride + 1."""
    return mvit(num_frames=num_frames, depths=depths, pooling=pooling, drop_path_rate=drop_path_rate, **overrides)


def mvit_s_16x4(
    *,
    depths: tuple[int, ...] = (3, 7, 6),
    embed_dim: int = 128,
    patch: Patch = Patch((3, 8, 8), (2, 8, 8)),
    pooling: Pooling = Pooling(stride_kv=(1, 4, 4)),
    **overrides: Any,
) -> MViT:
    """MViT-S, 16x4; there are no published weights."""
    return mvit(depths=depths, embed_dim=embed_dim, patch=patch, pooling=pooling, **overrides)


def mvit_b_16(
    *,
    num_classes: int = 1000,
    num_frames: int = 1,
    patch: Patch = Patch((1, 7, 7), (1, 4, 4)),
    pooling: Pooling = Pooling(kernel=(1, 3, 3), stride_kv=(1, 4, 4)),
    position: Position = "joint",
    drop_path_rate: float = 0.1,
    dropout: float = 0.0,
    **overrides: Any,
) -> MViT:
    """MViT-B-16 for images."""
    return mvit(
        num_classes=num_classes,
        num_frames=num_frames,
        patch=patch,
        pooling=pooling,
        position=position,
        drop_path_rate=drop_path_rate,
        dropout=dropout,
        **overrides,
    )


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
    """Any CPVT, an MViT of one stage without pooling, with PEGs instead of a table; by default CPVT-Ti for images.

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
