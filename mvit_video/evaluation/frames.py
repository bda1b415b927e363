"""Frames of tested videos, for people to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mvit_video.data import VideoReader, open_video
from mvit_video.data.clips.trimming import trim
from mvit_video.data.readers.image import ImageReader
from mvit_video.data.table.files import is_image


def read_frames(
    source: Path | bytes,
    num_frames: int,
    size: tuple[int, int],
    span: tuple[float, float] | None = None,
) -> list[Image.Image]:
    """Frames spread over a video, or the part of it between two times, each once, scaled to fit into a size.

    Args:
        source: where the video or image lies, or the bytes of a video.
        size: most pixels of a frame's width and height; one of them is reached.
        span: start and end of the part in seconds.

    Raises:
        VideoDecodeError: the video cannot be read.
    """
    with _open(source) as whole:
        reader = whole if span is None else trim(whole, *span, source if isinstance(source, Path) else "the video")
        wanted = np.unique(np.linspace(0, reader.num_frames - 1, num_frames).round().astype(int))
        frames = np.asarray(reader.get_frames(wanted))
    return [ImageOps.contain(Image.fromarray(frame), size, Image.Resampling.LANCZOS) for frame in frames]


def _open(source: Path | bytes) -> VideoReader:
    if isinstance(source, Path) and is_image(source):
        return ImageReader(source)
    return open_video(source)
