"""A video to extract features of, what it is called, and what is extracted."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mvit_video.data.table.video_table import Archive
from mvit_video.jobs import fitting_name

Span = tuple[float, float]


@dataclass(frozen=True)
class Stored:
    """A video that is no file of this machine, read where it is decoded.

    Attributes:
        archive: of this video alone.
    """

    archive: Archive


class Video(NamedTuple):
    """A video to extract features of.

    Attributes:
        path: what it is called in the results.
        source: where it lies, or its file's bytes.
        label: class; None where unknown.
        span: start and end in seconds of the part that counts, the end perhaps infinite; None is the whole video.
    """

    path: str
    source: Path | bytes | Stored
    label: int | None = None
    span: Span | None = None

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return video_name(self.path, self.span)

    def content(self) -> Path | bytes:
        """What to open.

        Raises:
            VideoDecodeError: it cannot be read from where it is stored.
        """
        return self.source.archive.read(0) if isinstance(self.source, Stored) else self.source


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """Features of the windows of a video; see `Windows` for the columns.

    Attributes:
        feature: `(W, K, *shape)`, K being 1 where crops are averaged; float32, or float16 in half precision.
        fps: frames per second of the video, on average.
    """

    video: Video
    feature: NDArray[Any]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    center_seconds: NDArray[np.float64]
    start_frame: NDArray[np.int64]
    end_frame: NDArray[np.int64]
    num_padded: NDArray[np.int32]
    fps: float


def video_name(path: str, span: Span | None) -> str:
    """What the manifest calls a video: its path; of a part with its seconds behind, as `a/x.mp4#t=12.5,20`."""
    return path if span is None else f"{path}#t={_seconds(span[0])},{_seconds(span[1])}"


def split_video_name(name: str) -> tuple[str, Span | None]:
    """Path and span of a video by its `video_name`."""
    path, mark, times = name.rpartition("#t=")
    start, _, end = times.partition(",")
    try:
        return (path, (float(start), inf if end == "end" else float(end))) if mark else (name, None)
    except ValueError:  # the mark is in the path
        return name, None


def file_name(path: str, span: Span | None, longest_ending: str = "") -> str:
    """What files call a video: its path without suffix, inside the folder of the features wherever it lies itself.

    Folders stay, so that videos of one name in two of them do not meet; a part of a video is called by its seconds:
    `a/x_12.5_20`. A name too long for file systems is cut, with a hash of it behind.

    Args:
        longest_ending: what files add to the name at most.
    """
    whole = PurePath(path)
    parts = ["_" if part == ".." else part for part in whole.parts if part != whole.anchor]
    stem = whole.stem if span is None else f"{whole.stem}_{_seconds(span[0])}_{_seconds(span[1])}"
    fitting = fitting_name(stem, longest_ending).removesuffix(longest_ending)
    return PurePath(*parts).with_name(fitting).as_posix()


def _seconds(value: float) -> str:
    return "end" if value == inf else f"{value:.3f}".rstrip("0").rstrip(".")
