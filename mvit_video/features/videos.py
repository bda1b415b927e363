"""Videos, their names, and their features."""

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
    """Video in an archive or at a URL, which is read where it is decoded.

    Attributes:
        archive: archive of this video alone.
    """

    archive: Archive


class Video(NamedTuple):
    """Video to extract features of.

    Attributes:
        path: its path in the results.
        source: file, content of a file, or an archive.
        label: class; None where unknown.
        span: start and end in seconds of the part that counts, the end perhaps infinite; None is the whole video.
    """

    path: str
    source: Path | bytes | Stored
    label: int | None = None
    span: Span | None = None

    @property
    def name(self) -> str:
        """Name in the manifest."""
        return video_name(self.path, self.span)

    def content(self) -> Path | bytes:
        """Return the file to open, or its content.

        Raises:
            VideoDecodeError: it cannot be read from the archive.
        """
        return self.source.archive.read(0) if isinstance(self.source, Stored) else self.source


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """Features of the windows of a video; for the other columns see `Windows`.

    Attributes:
        feature: `(W, K, *shape)`, K is 1 where crops are averaged; float32, or float16 in half precision.
        fps: frames per second of the video, on average.

    Examples:
        >>> (found,) = mv.extract("v.mp4", "runs/demo/version_0", window=16, stride=8)
        >>> found
        <VideoFeatures of 'v.mp4': 5 windows, shape (5, 1, 32)>
        >>> found.start_seconds.round(2).tolist()
        [0.0, 0.27, 0.53, 0.8, 1.07]
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

    def __repr__(self) -> str:
        return f"<VideoFeatures of {self.video.name!r}: {len(self.feature)} windows, shape {self.feature.shape}>"


def video_name(path: str, span: Span | None) -> str:
    """Return the name of a video in the manifest: its path, and the seconds of a part, as `a/x.mp4#t=12.5,20`."""
    return path if span is None else f"{path}#t={_seconds(span[0])},{_seconds(span[1])}"


def split_video_name(name: str) -> tuple[str, Span | None]:
    """Return path and span of a `video_name`."""
    path, mark, times = name.rpartition("#t=")
    start, _, end = times.partition(",")
    try:
        return (path, (float(start), inf if end == "end" else float(end))) if mark else (name, None)
    except ValueError:  # the mark is in the path
        return name, None


def file_name(path: str, span: Span | None, longest_ending: str = "") -> str:
    """Return the name of a video's files: its path without suffix, below the folder of the features.

    The seconds of a part are appended: `a/x_12.5_20`. A name too long for file systems is cut and gets a hash.

    Args:
        longest_ending: longest ending that files add to the name.
    """
    whole = PurePath(path)
    parts = ["_" if part == ".." else part for part in whole.parts if part != whole.anchor]
    stem = whole.stem if span is None else f"{whole.stem}_{_seconds(span[0])}_{_seconds(span[1])}"
    fitting = fitting_name(stem, longest_ending).removesuffix(longest_ending)
    return PurePath(*parts).with_name(fitting).as_posix()


def _seconds(value: float) -> str:
    return "end" if value == inf else f"{value:.3f}".rstrip("0").rstrip(".")
