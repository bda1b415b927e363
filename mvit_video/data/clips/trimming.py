"""Segments of videos."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.data.readers import VideoReader
from mvit_video.data.sampling import frames_within
from mvit_video.types import VideoDecodeError


def trim(reader: VideoReader, start_seconds: float, end_seconds: float, name: str | os.PathLike[str]) -> VideoReader:
    """Return a reader of the frames that begin in `[start_seconds, end_seconds)`.

    Args:
        end_seconds: may lie beyond the end of the video.
        name: name of the video, for messages.

    Raises:
        VideoDecodeError: no frame begins in that time.
    """
    first, stop = frames_within(reader.timestamps, start_seconds, end_seconds)
    if first == stop:
        raise VideoDecodeError(
            name,
            f"no frame begins between {start_seconds:g} and {end_seconds:g} seconds of its "
            f"{reader.duration_seconds:g}; correct the start and the end of the segment",
        )
    return _TrimmedReader(reader, first, stop, name)


class _TrimmedReader(VideoReader):
    """Reader of the frames `[first, stop)` of another reader; indices and time stamps start at 0."""

    def __init__(self, reader: VideoReader, first: int, stop: int, name: str | os.PathLike[str]) -> None:
        self._reader, self._first, self._name = reader, first, name
        begins = reader.timestamps
        end_seconds = begins[stop] if stop < len(begins) else reader.duration_seconds
        self.num_frames = stop - first
        self.fps = reader.fps
        self.duration_seconds = float(end_seconds - begins[first])
        self.height, self.width = reader.height, reader.width
        self.codec, self.container = reader.codec, reader.container
        self.backend, self.backend_reason = reader.backend, reader.backend_reason
        self._timestamps = begins[first:stop] - begins[first]

    @property
    def timestamps(self) -> NDArray[np.float64]:
        return self._timestamps

    @property
    def damaged(self) -> bool:
        return self._reader.damaged

    def get_frames(self, indices: Sequence[int] | NDArray[np.integer]) -> Tensor:
        wanted = np.asarray(indices)
        outside = wanted[(wanted < 0) | (wanted >= self.num_frames)]
        if outside.size:
            raise VideoDecodeError(
                self._name, f"frame {outside.flat[0]} is out of range, the segment has {self.num_frames} frames"
            )
        frames = self._reader.get_frames(wanted + self._first if wanted.size else wanted)
        self.backend, self.backend_reason = self._reader.backend, self._reader.backend_reason
        return frames

    def close(self) -> None:
        self._reader.close()
