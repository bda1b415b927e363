"""Builders of MViTv2 (arXiv:2112.01526)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mvit_video.models.architecture import KVReduction, Patch, Pooling, block_table
from mvit_video.models.families.mvit.net import HeadPool, MViT
from mvit_video.models.net import builder
from mvit_video.models.position import Position

VIDEO_POOLING = Pooling(q_everywhere=True, residual=True)
IMAGE_POOLING = Pooling(kernel=(1, 3, 3), stride_kv=(1, 4, 4), q_everywhere=True, residual=True)


@builder
def mvitv2(
    *,
    num_classes: int = 400,
    num_frames: int = 16,
    crop_size: int = 224,
    depths: tuple[int, ...] = (1, 2, 11, 2),
    embed_dim: int = 96,
    num_heads: int = 1,
    patch: Patch = Patch(),
    pooling: Pooling = VIDEO_POOLING,
    kv_reduction: KVReduction | None = None,
    position: Position = "relative",
    expand_in_attention: bool = True,
    class_token: bool = True,
    head_pool: HeadPool | None = None,
    drop_path_rate: float = 0.2,
    dropout: float = 0.5,
) -> MViT:
    """Any MViTv2; by default MViTv2-S for 16 frames.

    Args:
        depths: blocks in each stage.
        embed_dim: channels of the first stage; each later stage doubles them.
        num_heads: heads of the first stage; each later stage doubles them.
        kv_reduction: replaces `pooling.kv_reduction`; None keeps it.
        position: one or more kinds of position encoding, see `kinds_of`.
        expand_in_attention: widen in the attention of a stage's first block instead of the MLP before it.
        class_token: add a class token.
        head_pool: input of the head, see `MViT`.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        dropout: of the embedding before the classifier.

    Source: MViTv2 (arXiv:2112.01526) section 4.
    """
    if kv_reduction:
        pooling = replace(pooling, kv_reduction=kv_reduction)
    return MViT(
        block_table(depths, embed_dim, num_heads, pooling, expand_in_attention=expand_in_attention),
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


def mvitv2_s_16x4(**overrides: Any) -> MViT:
    """MViTv2-S, 16x4."""
    return mvitv2(**overrides)


def mvitv2_b_32x3(
    *, num_frames: int = 32, depths: tuple[int, ...] = (2, 3, 16, 3), drop_path_rate: float = 0.3, **overrides: Any
) -> MViT:
    """MViTv2-B, 32x3."""
    return mvitv2(num_frames=num_frames, depths=depths, drop_path_rate=drop_path_rate, **overrides)


def mvitv2_l_40x3(
    *,
    num_frames: int = 40,
    crop_size: int = 312,
    depths: tuple[int, ...] = (2, 6, 36, 4),
    embed_dim: int = 144,
    num_heads: int = 2,
    drop_path_rate: float = 0.75,
    **overrides: Any,
) -> MViT:
    """MViTv2-L, 40x3 at 312 pixels."""
    return mvitv2(
        num_frames=num_frames,
        crop_size=crop_size,
        depths=depths,
        embed_dim=embed_dim,
        num_heads=num_heads,
        drop_path_rate=drop_path_rate,
        **overrides,
    )


def _image(
    *,
    num_classes: int = 1000,
    num_frames: int = 1,
    patch: Patch = Patch((1, 7, 7), (1, 4, 4)),
    pooling: Pooling = IMAGE_POOLING,
    class_token: bool = False,
    drop_path_rate: float = 0.1,
    dropout: float = 0.0,
    **overrides: Any,
) -> MViT:
    return mvitv2(
        num_classes=num_classes,
        num_frames=num_frames,
        patch=patch,
        pooling=pooling,
        class_token=class_token,
        drop_path_rate=drop_path_rate,
        dropout=dropout,
        **overrides,
    )


def mvitv2_t(*, depths: tuple[int, ...] = (1, 2, 5, 2), **overrides: Any) -> MViT:
    """MViTv2-T for images."""
    return _image(depths=depths, **overrides)


def mvitv2_s(**overrides: Any) -> MViT:
    """MViTv2-S for images."""
    return _image(**overrides)


def mvitv2_b(*, depths: tuple[int, ...] = (2, 3, 16, 3), drop_path_rate: float = 0.3, **overrides: Any) -> MViT:
    """MViTv2-B for images."""
    return _image(depths=depths, drop_path_rate=drop_path_rate, **overrides)


def mvitv2_l(
    *,
    depths: tuple[int, ...] = (2, 6, 36, 4),
    embed_dim: int = 144,
    num_heads: int = 2,
    expand_in_attention: bool = False,
    drop_path_rate: float = 0.5,
    **overrides: Any,
) -> MViT:
    """MViTv2-L for images; the published one widens in the MLP."""
    return _image(
        depths=depths,
        embed_dim=embed_dim,
        num_heads=num_heads,
        expand_in_attention=expand_in_attention,
        drop_path_rate=drop_path_rate,
        **overrides,
    )
