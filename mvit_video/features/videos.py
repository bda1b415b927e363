"""A video to extract features of, and what is extracted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mvit_video.data.table.video_table import Archive


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
    span: tuple[float, float] | None = None

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
