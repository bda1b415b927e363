"""Exact frames from PyAV: seek to the previous key frame, decode, match time stamps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.data.readers.packet_index import PacketIndex
from mvit_video.data.readers.source import Source
from mvit_video.data.readers.stream import DecodeFailed, OpenStream
from mvit_video.types import VideoDecodeError

_SEEK_TRIES = 3
# decoding fewer frames than this is quicker than seeking past them
_JUMP_FRAMES = 4

Take = Callable[[int, VideoFrame], None]


class _SeekMissed(Exception):
    """The decoder did not return the frames that the index lists."""


class PyavReader:
    """Frames of one video; the stream stays open between calls.

    Args:
        size: height and width of the frames to deliver.
        strict: treat damage as an error even if the codec can conceal it.
        opened: the stream, if it is already open.

    Attributes:
        damaged: whether errors were concealed so far.
    """

    def __init__(
        self, source: Source, index: PacketIndex, size: tuple[int, int], *, strict: bool, opened: OpenStream | None
    ) -> None:
        self.damaged = index.is_damaged
        self._source, self._index, self._size, self._strict = source, index, size, strict
        self._opened = opened
        self._reformatter = VideoReformatter()

    def read(self, wanted: NDArray[np.int64]) -> Tensor:
        """Return frames by sorted, unique indices; uint8 `(len(wanted), H, W, 3)`.

        Raises:
            VideoDecodeError: a frame cannot be decoded, or is damaged and `strict` is set.
        """
        frames = allocate(self._source, len(wanted), self._size)
        canvas = frames.numpy()

        def convert(i: int, frame: VideoFrame) -> None:
            canvas[i] = self._to_rgb(frame)

        self._decode(wanted, convert, thorough=self._strict)
        return frames

    def check(self, wanted: NDArray[np.int64]) -> None:
        """Decode frames only to update `damaged`."""
        self._decode(wanted, lambda i, frame: None, thorough=True)

    def close(self) -> None:
        """Close the source."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _decode(self, wanted: NDArray[np.int64], take: Take, *, thorough: bool) -> None:
        """Pass the frames to `take`; a thorough pass decodes unneeded frames too, to find their errors."""
        progress = _Progress(take)
        if not self._index.is_damaged:
            try:
                self._attempt(wanted, progress, conceal=False, thorough=thorough)
                return
            except DecodeFailed as error:
                self.close()
                if self._strict:
                    raise self._damage(wanted, progress, error) from error
            # decode from the start again, since errors may be concealed in earlier frames
            progress = _Progress(take)
        try:
            self._attempt(wanted, progress, conceal=True, thorough=False)
        except DecodeFailed as error:
            raise self._damage(wanted, progress, error) from error
        self.damaged = True

    def _damage(self, wanted: NDArray[np.int64], progress: _Progress, error: DecodeFailed) -> VideoDecodeError:
        rank = wanted[min(progress.done, len(wanted) - 1)]
        return VideoDecodeError(
            self._source.name, f"the data of frame {rank} or of an earlier one are damaged ({error})"
        )

    def _attempt(self, wanted: NDArray[np.int64], progress: _Progress, *, conceal: bool, thorough: bool) -> None:
        """Pass the frames to `progress` in order: seek if possible, else decode from the start."""
        if self._index.pts is not None and self._index.is_seekable:
            try:
                opened = self._stream(conceal)
                for frame in _seek_frames(opened, self._index, self._index.pts[wanted], thorough):
                    progress.take(frame)
                return
            except _SeekMissed:
                progress.done = 0  # decoding from the start is slower, but always right
            finally:
                if conceal:
                    self.close()
        with OpenStream(self._source, conceal=conceal) as opened:
            frames = opened.frames(opened.packets())
            # damaged frames may be missing, so later ones cannot be counted
            by_stamp = conceal and self._index.is_seekable
            for frame in self._by_stamp(frames, wanted) if by_stamp else _by_rank(frames, wanted):
                progress.take(frame)
                if progress.done == len(wanted):
                    return
        lost = f"frame {wanted[progress.done]} of {self._index.num_frames} does not decode"
        raise VideoDecodeError(self._source.name, lost)

    def _stream(self, conceal: bool) -> OpenStream:
        if self._opened is None or self._opened.conceal != conceal or not self._opened.is_ours:
            self.close()
            self._opened = OpenStream(self._source, conceal=conceal)
        return self._opened

    def _by_stamp(self, frames: Iterator[VideoFrame], wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
        assert self._index.pts is not None
        missing = self._index.pts[wanted].tolist()
        for frame in frames:
            if frame.pts == missing[0]:
                yield frame
                del missing[0]

    def _to_rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        height, width = self._size if self._index.rotation % 180 == 0 else self._size[::-1]
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=Interpolation.BILINEAR, threads=1
        )
        pixels = cast(NDArray[np.uint8], rgb.to_ndarray())
        return np.rot90(pixels, self._index.rotation // 90) if self._index.rotation else pixels


class _Progress:
    """Number of frames taken, so that an error can name the next one."""

    def __init__(self, take: Take) -> None:
        self.done = 0
        self._take = take

    def take(self, frame: VideoFrame) -> None:
        self._take(self.done, frame)
        self.done += 1


def allocate(source: Source, num_frames: int, size: tuple[int, int]) -> Tensor:
    """Create the tensor for frames."""
    try:
        return torch.empty((num_frames, *size, 3), dtype=torch.uint8)
    except RuntimeError as error:
        reason = f"{num_frames} frames of {size[1]}x{size[0]} pixels do not fit into memory"
        raise VideoDecodeError(source.name, reason) from error


def _by_rank(frames: Iterator[VideoFrame], wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
    ranks = set(wanted.tolist())
    return (frame for rank, frame in enumerate(frames) if rank in ranks)


def _seek_frames(
    opened: OpenStream, index: PacketIndex, wanted: NDArray[np.int64], thorough: bool
) -> Iterator[VideoFrame]:
    """Yield the frames with the time stamps `wanted`, seeking to key frames where that saves work."""
    assert index.pts is not None
    governing = np.searchsorted(index.key_pts, wanted, side="right") - 1
    key_ranks = np.searchsorted(index.pts, index.key_pts)
    ranks = np.searchsorted(index.pts, wanted)
    is_new = (np.diff(governing) > 0) & (key_ranks[governing[1:]] - ranks[:-1] >= _JUMP_FRAMES)
    for run in np.split(wanted, np.flatnonzero(is_new) + 1):
        yield from _decode_run(opened, index, run.tolist(), thorough)


def _decode_run(opened: OpenStream, index: PacketIndex, wanted: list[int], thorough: bool) -> Iterator[VideoFrame]:
    """Yield frames after one key frame; start earlier if frames refer to data before the key frame."""
    key = int(np.searchsorted(index.key_pts, wanted[0], side="right")) - 1
    back, failed_at = 0, None
    while True:
        try:
            packets = _packets_of_run(opened, index, wanted, max(key - back, 0), thorough)
            for frame in _match(opened.frames(packets), wanted):
                yield frame
                wanted = wanted[1:]
            return
        except DecodeFailed as error:
            # a packet that fails again after an earlier start is damaged
            if opened.conceal or key - back <= 0 or (back and error.pts == failed_at):
                raise
            back, failed_at = 2 * back + 1, error.pts


def _match(frames: Iterator[VideoFrame], wanted: list[int]) -> Iterator[VideoFrame]:
    remaining = iter(wanted)
    target, last = next(remaining), -(2**63)
    for frame in frames:
        pts = frame.pts
        if pts is None or pts <= last or pts > target:
            raise _SeekMissed
        last = pts
        if pts == target:
            yield frame
            target = next(remaining, None)
            if target is None:
                return
    raise _SeekMissed


def _packets_of_run(
    opened: OpenStream, index: PacketIndex, wanted: list[int], key: int, thorough: bool
) -> Iterator[Packet[VideoStream] | None]:
    """Yield the packets that the decoder needs for the time stamps `wanted`; None flushes it."""
    needed, waiting, codec, skip = set(wanted), set(wanted), opened.codec, None
    for packet in _packets_from_key(opened, index, key):
        # skip frames that are neither wanted nor referred to
        pts = packet.pts
        wish = "DEFAULT" if thorough or pts is None or pts in needed else "NONREF"
        if wish != skip:
            codec.skip_frame = skip = wish
        yield packet
        waiting.discard(pts)
        if not waiting and codec.reorder_depth > 0:
            yield None
            return


def _packets_from_key(opened: OpenStream, index: PacketIndex, key: int) -> Iterator[Packet[VideoStream]]:
    """Yield packets from a key frame, or from an earlier one if seeking lands too late."""
    one_second = int(1 / index.time_base)
    for tried in range(key, key - _SEEK_TRIES, -1):
        # seeking in MPEG-TS lands after the key frame, so aim one second before the first one
        offset = int(index.key_pts[tried]) if tried >= 0 else int(index.key_pts[0]) - one_second
        try:
            opened.seek(offset)
        except FFmpegError:
            raise _SeekMissed from None
        packets = opened.packets()
        first = next((packet for packet in packets if packet.is_keyframe), None)
        if first is not None and first.pts is not None and first.pts <= index.key_pts[key]:
            yield first
            yield from packets
            return
    raise _SeekMissed
