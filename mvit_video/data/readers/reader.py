"""The one way to open a video."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import BinaryIO, Literal, NoReturn, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.data.readers.decord_reader import DecordFailed, decord_refusal, read_with_decord
from mvit_video.data.readers.packet_index import PacketIndex, Source, scan_packets
from mvit_video.data.readers.pyav_reader import read_with_pyav
from mvit_video.types import ConfigError, VideoDecodeError

Backend = Literal["decord", "pyav"]


@runtime_checkable
class VideoReader(Protocol):
    """An open video; a context manager.

    Attributes:
        num_frames: frames that can be decoded.
        fps: mean frames per second.
        duration_seconds: `num_frames / fps`.
        height: pixels, after rotation.
        width: pixels, after rotation.
        backend: library that decodes.
        backend_reason: why that one.
    """

    num_frames: int
    fps: float
    duration_seconds: float
    height: int
    width: int
    backend: Backend
    backend_reason: str

    def get_frames(self, indices: Sequence[int] | NDArray[np.integer]) -> Tensor:
        """Frames by index, in any order and with repetitions; uint8 `(T, H, W, 3)`, RGB.

        Raises:
            VideoDecodeError: an index is out of range, or a frame cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Let the source go; frames can no longer be read."""
        ...

    def __enter__(self) -> VideoReader: ...

    def __exit__(self, *_: object) -> None: ...


def open_video(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO, backend: Backend = "decord"
) -> VideoReader:
    """Open a video.

    Args:
        source: a file's path, the bytes of a video, or a binary file, which is read to its end.
        backend: library that decodes; "decord" hands over to "pyav" what is no path, and files of which decord would
            return other frames.

    Raises:
        VideoDecodeError: the source is not a video that can be decoded.
        TypeError: the source is none of the above.
    """
    if backend not in get_args(Backend):
        raise ConfigError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}")
    opened = _as_source(source)
    return _IndexedReader(opened, scan_packets(opened), backend)


def _as_source(source: object) -> Source:
    if isinstance(source, (str, os.PathLike)):
        return Source(os.fspath(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Source("<bytes>", bytes(source))
    read = None if isinstance(source, io.TextIOBase) else getattr(source, "read", None)
    data = read() if callable(read) else None
    if not isinstance(data, bytes):
        raise TypeError(
            "a video is given as a path, as its bytes or as a file opened in binary mode, "
            f"got an object of type {type(source).__name__}"
        )
    return Source(str(getattr(source, "name", "<binary file>")), data)


class _IndexedReader:
    """A packet index and the library that decodes; holds no decoder between calls."""

    def __init__(self, source: Source, index: PacketIndex, backend: Backend) -> None:
        refusal = decord_refusal(source, index) if backend == "decord" else None
        self._source: Source | None = source
        self._index = index
        self.num_frames = index.num_frames
        self.fps = index.fps
        self.duration_seconds = index.num_frames / index.fps
        self.height, self.width = index.height, index.width
        self.backend: Backend = "pyav" if refusal else backend
        self.backend_reason = f"not decord: {refusal}" if refusal else "as asked"
        self._name = source.name

    def get_frames(self, indices: Sequence[int] | NDArray[np.integer]) -> Tensor:
        if self._source is None:
            raise VideoDecodeError(self._name, "the reader is closed")
        order = np.asarray(indices)
        if order.size == 0:
            return torch.empty((0, self.height, self.width, 3), dtype=torch.uint8)
        if order.ndim != 1 or not np.issubdtype(order.dtype, np.integer):
            raise TypeError(f"indices must be a sequence of integers, got {order.dtype} of shape {order.shape}")
        outside = order[(order < 0) | (order >= self.num_frames)]
        if outside.size:
            raise VideoDecodeError(self._name, f"frame {outside[0]} is out of range, it has {self.num_frames} frames")
        wanted, position = np.unique(order, return_inverse=True)
        frames = self._read(self._source, wanted.astype(np.int64))
        if len(wanted) == len(order) and (position[1:] > position[:-1]).all():
            return frames
        return frames[torch.from_numpy(position)]

    def _read(self, source: Source, wanted: NDArray[np.int64]) -> Tensor:
        if self.backend == "decord":
            try:
                return read_with_decord(source, self._index, wanted)
            except DecordFailed as error:
                self.backend, self.backend_reason = "pyav", str(error)
        return read_with_pyav(source, self._index, wanted)

    def close(self) -> None:
        self._source = None

    def __enter__(self) -> _IndexedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VideoReader cannot be pickled; pass the path and open the video in each process")

    def __repr__(self) -> str:
        return (
            f"VideoReader({self._name}, {self.num_frames} frames {self.width}x{self.height} "
            f"at {self.fps:.3f} fps, {self.backend})"
        )
