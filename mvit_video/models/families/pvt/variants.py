"""Builders of PVT, PVTv2 and Twins-PCPVT: for images by default, for clips with `num_frames` above 1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mvit_video.models.architecture import KVReduction, Patch
from mvit_video.models.families.pvt.net import PVT, Pyramid
from mvit_video.models.net import builder
from mvit_video.models.position import Position

_TILES = Patch((1, 4, 4), (1, 4, 4))
_OVERLAPPING = Patch((1, 7, 7), (1, 4, 4))
_PYRAMID = Pyramid()
_NARROW = Pyramid(dims=(32, 64, 160, 256))
_SLIM = Pyramid(mlp_ratios=(4, 4, 4, 4))
_WIDE = Pyramid(dims=(128, 256, 512, 768), num_heads=(2, 4, 8, 12))


@builder
def pvt(
    *,
    num_classes: int = 1000,
    num_frames: int = 1,
    crop_size: int = 224,
    depths: tuple[int, ...] = (3, 4, 6, 3),
    pyramid: Pyramid = _PYRAMID,
    kv_reduction: KVReduction | None = None,
    patch: Patch = _TILES,
    position: Position | None = None,
    class_token: bool = True,
    drop_path_rate: float = 0.1,
    dropout: float = 0.0,
) -> PVT:
    """Any PVT; by default PVT-Small for images.

    Args:
        depths: blocks in each stage.
        kv_reduction: replaces `pyramid.kv_reduction`; None keeps it.
        position: one or more kinds of position encoding, see `kinds_of`; None for a joint table (images, as published)
            or separable tables (clips).
        class_token: classify by a token that joins in the last stage instead of the mean of all tokens.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        dropout: of the embedding before the classifier.

    Source: PVT (arXiv:2102.12122) table 1.
    """
    return PVT(
        depths,
        replace(pyramid, kv_reduction=kv_reduction) if kv_reduction else pyramid,
        num_classes=num_classes,
        num_frames=num_frames,
        crop_size=crop_size,
        patch=patch,
        position=position or ("joint" if num_frames == 1 else "separable"),
        class_token=class_token,
        drop_path_rate=drop_path_rate,
        dropout=dropout,
    )


def pvt_tiny(*, depths: tuple[int, ...] = (2, 2, 2, 2), **overrides: Any) -> PVT:
    """PVT-Tiny."""
    return pvt(depths=depths, **overrides)


def pvt_small(**overrides: Any) -> PVT:
    """PVT-Small."""
    return pvt(**overrides)


def pvt_medium(*, depths: tuple[int, ...] = (3, 4, 18, 3), drop_path_rate: float = 0.3, **overrides: Any) -> PVT:
    """PVT-Medium."""
    return pvt(depths=depths, drop_path_rate=drop_path_rate, **overrides)


def pvt_large(*, depths: tuple[int, ...] = (3, 8, 27, 3), drop_path_rate: float = 0.3, **overrides: Any) -> PVT:
    """PVT-Large."""
    return pvt(depths=depths, drop_path_rate=drop_path_rate, **overrides)


def pvt_huge(*, depths: tuple[int, ...] = (3, 10, 60, 3), pyramid: Pyramid = _WIDE, **overrides: Any) -> PVT:
    """PVT-Huge, `pvt_huge_v2` in the published code, which gives no accuracy."""
    return pvt(depths=depths, pyramid=pyramid, **overrides)


def twins_pcpvt_small(
    *, position: Position = "peg_stages", class_token: bool = False, drop_path_rate: float = 0.2, **overrides: Any
) -> PVT:
    """Twins-PCPVT-Small, PVT with PEGs and without class token."""
    return pvt(position=position, class_token=class_token, drop_path_rate=drop_path_rate, **overrides)


def twins_pcpvt_base(*, depths: tuple[int, ...] = (3, 4, 18, 3), drop_path_rate: float = 0.3, **overrides: Any) -> PVT:
    """Twins-PCPVT-Base."""
    return twins_pcpvt_small(depths=depths, drop_path_rate=drop_path_rate, **overrides)


def twins_pcpvt_large(*, depths: tuple[int, ...] = (3, 8, 27, 3), drop_path_rate: float = 0.5, **overrides: Any) -> PVT:
    """Twins-PCPVT-Large."""
    return twins_pcpvt_small(depths=depths, drop_path_rate=drop_path_rate, **overrides)


@builder
def pvt_v2(
    *,
    num_classes: int = 1000,
    num_frames: int = 1,
    crop_size: int = 224,
    depths: tuple[int, ...] = (3, 4, 6, 3),
    pyramid: Pyramid = _PYRAMID,
    kv_reduction: KVReduction | None = None,
    patch: Patch = _OVERLAPPING,
    position: Position = "none",
    drop_path_rate: float = 0.1,
    dropout: float = 0.0,
) -> PVT:
    """Any PVTv2; by default B2 for images.

    The zero padding of the convolutions in its MLPs encodes positions, in time too for more than one frame.

    Args:
        depths: blocks in each stage.
        kv_reduction: replaces `pyramid.kv_reduction`; None keeps it.
        position: one or more kinds of position encoding, see `kinds_of`, besides the convolutions.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        dropout: of the embedding before the classifier.

    Source: PVTv2 (arXiv:2106.13797) table 1.
    """
    return PVT(
        depths,
        replace(pyramid, kv_reduction=kv_reduction) if kv_reduction else pyramid,
        num_classes=num_classes,
        num_frames=num_frames,
        crop_size=crop_size,
        patch=patch,
        position=position,
        class_token=False,
        convolutional=True,
        drop_path_rate=drop_path_rate,
        dropout=dropout,
    )


def pvt_v2_b0(*, depths: tuple[int, ...] = (2, 2, 2, 2), pyramid: Pyramid = _NARROW, **overrides: Any) -> PVT:
    """PVTv2-B0."""
    return pvt_v2(depths=depths, pyramid=pyramid, **overrides)


def pvt_v2_b1(*, depths: tuple[int, ...] = (2, 2, 2, 2), **overrides: Any) -> PVT:
    """PVTv2-B1."""
    return pvt_v2(depths=depths, **overrides)


def pvt_v2_b2(**overrides: Any) -> PVT:
    """PVTv2-B2."""
    return pvt_v2(**overrides)


def pvt_v2_b2_li(*, kv_reduction: KVReduction = "linear_sra", **overrides: Any) -> PVT:
    """PVTv2-B2-Li, with linear attention."""
    return pvt_v2(kv_reduction=kv_reduction, **overrides)


def pvt_v2_b3(*, depths: tuple[int, ...] = (3, 4, 18, 3), drop_path_rate: float = 0.3, **overrides: Any) -> PVT:
    """PVTv2-B3."""
    return pvt_v2(depths=depths, drop_path_rate=drop_path_rate, **overrides)


def pvt_v2_b4(*, depths: tuple[int, ...] = (3, 8, 27, 3), drop_path_rate: float = 0.3, **overrides: Any) -> PVT:
    """PVTv2-B4."""
    return pvt_v2(depths=depths, drop_path_rate=drop_path_rate, **overrides)


def pvt_v2_b5(
    *,
    depths: tuple[int, ...] = (3, 6, 40, 3),
    pyramid: Pyramid = _SLIM,
    drop_path_rate: float = 0.3,
    **overrides: Any,
) -> PVT:
    """PVTv2-B5."""
    return pvt_v2(depths=depths, pyramid=pyramid, drop_path_rate=drop_path_rate, **overrides)
