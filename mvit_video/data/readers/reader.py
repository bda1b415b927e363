"""Interface and implementation of video readers."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NoReturn, SupportsIndex, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.data.readers.index_cache import IndexCache
from mvit_video.data.readers.libraries import (
    NO_DAMAGE_REPORT,
    BackendFailed,
    TimedOut,
    decoding_limit,
    decord_refusal,
    read_with,
    require_torchcodec,
)
from mvit_video.data.readers.packet_index import PacketIndex, scan_packets
from mvit_video.data.readers.pyav_reader import PyavReader
from mvit_video.data.readers.source import Source, as_source, check_source
from mvit_video.data.readers.stream import OpenStream
from mvit_video.types import Backend, ConfigError, VideoDecodeError

# one decoder call per frame would seek for each
_ITERATED_FRAMES = 32


class VideoReader(ABC):
    """Open video: a sequence of frames and a context manager.

    `len(reader)` counts its frames, `reader[i]` is one, uint8 `(H, W, 3)` in RGB, and `reader[0:64:4]` several,
    `(T, H, W, 3)`; negative indices and steps as in lists.

    Attributes:
        num_frames: frames that can be decoded.
        fps: mean frames per second.
        duration_seconds: from the first frame's time stamp to the end of the last frame.
        height: pixels of a delivered frame, after rotation and `short_side`.
        width: pixels of a delivered frame, after rotation and `short_side`.
        codec: FFmpeg's name of the codec, such as "h264".
        container: FFmpeg's first name of the container; "mov" covers MP4, "matroska" covers WebM.
        backend: decoding library; becomes "pyav" if another library fails while reading.
        backend_reason: why this library decodes.

    Examples:
        >>> with mv.open_video("v.mp4") as reader:
        ...     print(len(reader), reader[0:64:4].shape)
        48 torch.Size([12, 64, 96, 3])
    """

    num_frames: int
    fps: float
    duration_seconds: float
    height: int
    width: int
    codec: str
    container: str
    backend: str
    backend_reason: str

    @property
    @abstractmethod
    def timestamps(self) -> NDArray[np.float64]:
        """Seconds since the first frame, `(num_frames,)`; evenly spaced at `fps` if the stream's do not increase."""

    @property
    @abstractmethod
    def damaged(self) -> bool:
        """Whether the codec concealed errors in the frames read so far.

        Only PyAV reports concealed errors. Frames from another library are decoded again with PyAV to answer, so ask
        before closing.

        Raises:
            VideoDecodeError: a frame cannot be decoded again, or the reader is closed.
        """

    @abstractmethod
    def get_frames(self, indices: Sequence[int] | NDArray[np.integer]) -> Tensor:
        """Return frames by index, in any order and with repetitions; uint8 `(T, H, W, 3)`, RGB.

        All frames have the size of the first one, even if the video changes its size.

        Raises:
            VideoDecodeError: an index is out of range, or a frame cannot be decoded.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the source; no more frames can be read."""

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: SupportsIndex | slice) -> Tensor:
        numbers = range(self.num_frames)
        if isinstance(index, slice):
            return self.get_frames(numbers[index])
        if not hasattr(index, "__index__"):
            raise TypeError(f"a frame is an integer or a slice, got {index!r}; for several use reader.get_frames(...)")
        try:
            return self.get_frames([numbers[index]])[0]
        except IndexError:
            raise IndexError(f"frame {index} is out of range, the video has {self.num_frames} frames") from None

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, self.num_frames, _ITERATED_FRAMES):
            yield from self[start : start + _ITERATED_FRAMES]

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_video(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO,
    backend: Backend = "decord",
    *,
    strict: bool = False,
    short_side: int | None = None,
    index_cache: IndexCache | None = None,
) -> VideoReader:
    """Open a video for reading frames by index.

    Examples:
        >>> with mv.open_video("v.mp4") as reader:
        ...     clip = reader[0:16:4]  # uint8 (T, H, W, 3), RGB
        ...     last = reader[-1]  # uint8 (H, W, 3)
        >>> len(clip), last.shape == (reader.height, reader.width, 3)
        (4, True)

    Args:
        source: path of a file, bytes of a video, or a file opened in binary mode, which is read to its end.
        backend: decoding library; "decord" and "torchcodec" leave files that they would decode differently to "pyav".
        strict: treat damage as an error even if the codec can conceal it; PyAV decodes, since only it reports damage.
        short_side: resize frames while decoding so that the short side has this many pixels; smaller frames keep their
            size. Each library uses its own smooth interpolation.
        index_cache: cache of packet indices; saves the pass over the packets of a known file.

    Raises:
        VideoDecodeError: the source is not a video that can be decoded.
        ConfigError: the backend is unknown or not installed, or `short_side` is not a whole number of at least 1.
        TypeError: the source is none of the above.
    """
    if backend not in get_args(Backend):
        raise ConfigError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}")
    if short_side is not None and (not isinstance(short_side, int) or short_side < 1):
        raise ConfigError(f"short_side must be a whole number of at least 1, got {short_side!r}")
    if backend == "torchcodec":
        require_torchcodec()
    video = as_source(source)
    status = check_source(video)
    index, opened = _index_of(video, status, index_cache)
    try:
        return _IndexedReader(video, status, index, backend, strict=strict, short_side=short_side, opened=opened)
    except BaseException:
        if opened is not None:
            opened.close()
        raise


def _index_of(
    source: Source, status: os.stat_result | None, cache: IndexCache | None
) -> tuple[PacketIndex, OpenStream | None]:
    """Return the packet index of a source, and its stream if that had to be opened."""
    index = None if cache is None or status is None else cache.get(source.path, status)
    if index is not None:
        return index, None
    opened = OpenStream(source)
    try:
        index = scan_packets(opened)
    except BaseException:
        opened.close()
        raise
    if cache is not None and status is not None:
        cache.put(source.path, status, index)
    return index, opened


def _delivered_size(index: PacketIndex, short_side: int | None) -> tuple[int, int]:
    """Return height and width of the frames to deliver; never enlarged, rounded as in torchvision."""
    height, width = index.height, index.width
    if short_side is None or short_side >= min(height, width):
        return height, width
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


class _IndexedReader(VideoReader):
    """Video reader that finds frames by a packet index."""

    def __init__(
        self,
        source: Source,
        status: os.stat_result | None,
        index: PacketIndex,
        backend: Backend,
        *,
        strict: bool,
        short_side: int | None,
        opened: OpenStream | None,
    ) -> None:
        if strict and index.is_damaged:
            raise VideoDecodeError(
                source.name, "its data are damaged, and its frames cannot be identified by time stamps"
            )
        refusal = decord_refusal(source, index, strict) if backend == "decord" else None
        if backend == "torchcodec":
            refusal = NO_DAMAGE_REPORT if strict else index.torchcodec_refusal
        self._name, self._source, self._status, self._index = source.name, source, status, index
        self._size = self.height, self.width = _delivered_size(index, short_side)
        self._pyav = PyavReader(source, index, self._size, strict=strict, opened=opened)
        self._unchecked: list[NDArray[np.int64]] = []
        self._is_closed = False
        self.num_frames, self.fps, self.duration_seconds = index.num_frames, index.fps, index.duration_seconds
        self.codec, self.container = index.codec, index.container
        self.backend = "pyav" if refusal else backend
        self.backend_reason = f"not {backend}: {refusal}" if refusal else "as asked"
        if self.backend != "pyav":
            self._pyav.close()

    @property
    def timestamps(self) -> NDArray[np.float64]:
        return self._index.timestamps

    @property
    def damaged(self) -> bool:
        if self._unchecked:
            self._check_open()
            wanted = np.unique(np.concatenate(self._unchecked))
            self._unchecked.clear()
            self._pyav.check(wanted)
        return self._pyav.damaged

    def get_frames(self, indices: Sequence[int] | NDArray[np.integer]) -> Tensor:
        self._check_open()
        order = np.asarray(indices)
        if order.size == 0:
            return torch.empty((0, *self._size, 3), dtype=torch.uint8)
        if order.ndim != 1 or not np.issubdtype(order.dtype, np.integer):
            raise TypeError(f"indices must be a sequence of integers, got {order.dtype} of shape {order.shape}")
        outside = order[(order < 0) | (order >= self.num_frames)]
        if outside.size:
            raise VideoDecodeError(self._name, f"frame {outside[0]} is out of range, it has {self.num_frames} frames")
        wanted, position = np.unique(order, return_inverse=True)
        self._check_unchanged()
        frames = self._read(wanted.astype(np.int64))
        if len(wanted) == len(order) and (position[1:] > position[:-1]).all():
            return frames
        return frames[torch.from_numpy(position)]

    def _check_open(self) -> None:
        if self._is_closed:
            raise VideoDecodeError(self._name, "the reader is closed")

    def _check_unchanged(self) -> None:
        now, then = check_source(self._source), self._status
        if now and then and (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise VideoDecodeError(self._name, "has changed since it was opened")

    def _read(self, wanted: NDArray[np.int64]) -> Tensor:
        if self.backend != "pyav":
            limit = decoding_limit(
                int(wanted[-1]) + 1, self._index.height, self._index.width, self._source.num_bytes(self._status)
            )
            try:
                frames = read_with(self.backend, self._source, self._index, wanted, self._size, limit)
                self._unchecked.append(wanted)
                return frames
            except BackendFailed as error:
                self.backend, self.backend_reason = "pyav", str(error)
                if isinstance(error, TimedOut):
                    warnings.warn(f"{self._name}: {error} and is left running; PyAV decodes instead", stacklevel=3)
        return self._pyav.read(wanted)

    def close(self) -> None:
        self._is_closed = True
        self._pyav.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VideoReader cannot be pickled; pass the path and open the video in each process")

    def __repr__(self) -> str:
        return (
            f"VideoReader({self._name}, {self.num_frames} frames {self.width}x{self.height} "
            f"at {self.fps:.3f} fps, {self.backend})"
        )
