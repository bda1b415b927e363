"""Builders of AlterNet (arXiv:2202.06709)."""

from __future__ import annotations

from typing import Any

from mvit_video.models.families.alternet.net import AlterNet, BlockKind
from mvit_video.models.net import builder


@builder
def alternet(
    *,
    num_classes: int = 1000,
    num_frames: int = 1,
    crop_size: int = 224,
    depths: tuple[int, ...] = (3, 4, 6, 4),
    num_pairs: tuple[int, ...] = (0, 1, 3, 2),
    block: BlockKind = "bottleneck",
    stem_stride: int | None = None,
    window_size: int | None = None,
    drop_path_rate: float = 0.1,
    dropout: float = 0.0,
) -> AlterNet:
    """Any AlterNet; by default AlterNet-50 for images.

    Args:
        depths: blocks in each stage.
        num_pairs: pairs of convolution and attention at the end of each stage; (0, 0, 0, 0) is a ResNet, and
            (0, 1, 1, 2) has the four attention blocks of the paper's text.
        block: kind of the convolution blocks.
        stem_stride: 4, or 1 for small images; None is 1 for a `crop_size` below 64, else 4.
        window_size: side of the windows in cells; None for the largest up to 8 that tiles every stage with attention.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        dropout: of the embedding before the classifier.

    Source: How Do Vision Transformers Work? (arXiv:2202.06709) section 5.
    """
    return AlterNet(
        depths,
        num_pairs,
        block=block,
        num_classes=num_classes,
        num_frames=num_frames,
        crop_size=crop_size,
        stem_stride=stem_stride,
        window_size=window_size,
        drop_path_rate=drop_path_rate,
        dropout=dropout,
    )


def alternet_18(
    *,
    depths: tuple[int, ...] = (2, 2, 2, 2),
    num_pairs: tuple[int, ...] = (0, 1, 1, 1),
    block: BlockKind = "basic",
    **overrides: Any,
) -> AlterNet:
    """AlterNet-18 for images."""
    return alternet(depths=depths, num_pairs=num_pairs, block=block, **overrides)


def alternet_34(*, block: BlockKind = "basic", **overrides: Any) -> AlterNet:
    """AlterNet-34 for images."""
    return alternet(block=block, **overrides)


def alternet_50(**overrides: Any) -> AlterNet:
    """AlterNet-50 for images."""
    return alternet(**overrides)


def alternet_101(*, depths: tuple[int, ...] = (3, 4, 23, 4), **overrides: Any) -> AlterNet:
    """AlterNet-101 for images."""
    return alternet(depths=depths, **overrides)


def alternet_152(*, depths: tuple[int, ...] = (3, 8, 36, 4), **overrides: Any) -> AlterNet:
    """AlterNet-152 for images."""
    return alternet(depths=depths, **overrides)
