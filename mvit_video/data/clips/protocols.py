"""Protocols of views at test: one function each, listed in `PROTOCOLS` and in `ViewProtocol`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mvit_video.data.readers import VideoReader
from mvit_video.data.sampling import constant_clips, resampled_clips, uniform_clips
from mvit_video.types import ClipSpec, ConfigError, ViewProtocol, ViewSpec


class Layout(NamedTuple):
    """Positions of the views of a video.

    Attributes:
        clips: source frames of each of K clips, `(K, T)`.
        short_side: pixels of the short side before cropping.
        rounding: rounds the offset of a centre crop.
    """

    clips: Callable[[VideoReader], NDArray[np.int64]]
    short_side: int
    rounding: Callable[[float], int] = math.ceil


def published_short_side(crop_size: int, num_crops: int) -> int:
    """Return SlowFast's short side before cropping: 8/7 of one crop (256 for 224), or the size of three crops."""
    return crop_size * 8 // 7 if num_crops == 1 else crop_size


def _slowfast(clip: ClipSpec, crop_size: int, views: ViewSpec) -> Layout:
    return Layout(
        lambda reader: uniform_clips(reader.num_frames, reader.fps, clip, views.num_clips),
        views.short_side or published_short_side(crop_size, views.num_crops),
    )


def _torchvision(clip: ClipSpec, crop_size: int, views: ViewSpec) -> Layout:
    if views.num_crops > 1:
        raise ConfigError(f"views.num_crops={views.num_crops}, but views.protocol=torchvision has one crop")
    return Layout(
        lambda reader: resampled_clips(reader.num_frames, reader.fps, clip, views.num_clips),
        views.short_side or published_short_side(crop_size, views.num_crops),
        round,
    )


def _pytorchvideo(clip: ClipSpec, crop_size: int, views: ViewSpec) -> Layout:
    return Layout(
        lambda reader: constant_clips(reader.timestamps, reader.duration_seconds, clip, views.num_clips),
        views.short_side or crop_size,
    )


PROTOCOLS: dict[ViewProtocol, Callable[[ClipSpec, int, ViewSpec], Layout]] = {
    "slowfast": _slowfast,
    "torchvision": _torchvision,
    "pytorchvideo": _pytorchvideo,
}
"""Functions of a clip, the crop size and the views."""
