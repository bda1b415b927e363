"""Exact frames through PyAV: seek to the key frame before, decode the span, match by time stamp."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.data.readers.packet_index import PacketIndex, Source, open_stream
from mvit_video.types import VideoDecodeError

_SEEK_TRIES = 3


class _SeekMissed(Exception):
    """The decoder did not deliver the frames that the index promised."""


def read_with_pyav(source: Source, index: PacketIndex, wanted: NDArray[np.int64]) -> Tensor:
    """Frames `wanted`, which are sorted and unique; uint8 `(len(wanted), H, W, 3)`."""
    frames = torch.empty((len(wanted), index.height, index.width, 3), dtype=torch.uint8)
    canvas, reformatter = frames.numpy(), VideoReformatter()
    if index.pts is not None:
        try:
            with open_stream(source) as (container, stream):
                for i, frame in enumerate(_seek_frames(container, stream, index, index.pts[wanted])):
                    canvas[i] = _to_rgb(frame, index, reformatter)
            return frames
        except _SeekMissed:
            pass  # slower, but right for any file that can be decoded at all
    with open_stream(source) as (container, stream):
        i = 0
        for rank, frame in enumerate(container.decode(stream)):
            if rank == wanted[i]:
                canvas[i] = _to_rgb(frame, index, reformatter)
                i += 1
                if i == len(wanted):
                    return frames
    raise VideoDecodeError(source.name, f"frame {wanted[i]} of {index.num_frames} does not decode")


def _seek_frames(
    container: InputContainer, stream: VideoStream, index: PacketIndex, wanted: NDArray[np.int64]
) -> Iterator[VideoFrame]:
    """Frames with the time stamps `wanted`, in order; seeks again only where a key frame lies in between."""
    governing = np.searchsorted(index.key_pts, wanted, side="right") - 1
    runs = np.flatnonzero(np.diff(governing)) + 1
    last_key = -1
    todo: list[NDArray[np.int64]] = []
    for run, key in zip(np.split(wanted, runs), governing[np.r_[0, runs]], strict=True):
        # consecutive groups of pictures are decoded in one go
        if todo and key <= last_key + 1:
            todo[-1] = np.concatenate([todo[-1], run])
        else:
            todo.append(run)
        last_key = key
    for run in todo:
        yield from _decode_run(container, stream, index, run)


def _decode_run(
    container: InputContainer, stream: VideoStream, index: PacketIndex, wanted: NDArray[np.int64]
) -> Iterator[VideoFrame]:
    remaining = iter(wanted.tolist())
    target, last = next(remaining), -(2**63)
    needed = set(wanted.tolist())
    for packet in _packets_from_key(container, stream, index, target):
        # what no frame refers to and nobody asked for need not be decoded
        stream.codec_context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in needed else "NONREF"
        for frame in packet.decode():
            if frame.pts is None or frame.pts <= last or frame.pts > target:
                raise _SeekMissed
            last = frame.pts
            if frame.pts == target:
                yield frame
                target = next(remaining, None)
                if target is None:
                    return
    raise _SeekMissed


def _packets_from_key(
    container: InputContainer, stream: VideoStream, index: PacketIndex, target: int
) -> Iterator[Packet[VideoStream]]:
    """Packets from the key frame that governs `target`, or from an earlier one where seeking lands too late."""
    key = int(np.searchsorted(index.key_pts, target, side="right")) - 1
    one_second = int(1 / stream.time_base) if stream.time_base else 0
    for tried in range(key, key - _SEEK_TRIES, -1):
        # MPEG-TS lands behind the key frame that was asked for, so before the first one a second is added
        offset = int(index.key_pts[tried]) if tried >= 0 else int(index.key_pts[0]) - one_second
        try:
            container.seek(offset, stream=stream, backward=True)
        except FFmpegError:
            raise _SeekMissed from None
        packets = container.demux(stream)
        first = next((packet for packet in packets if packet.is_keyframe), None)
        if first is not None and first.pts is not None and first.pts <= index.key_pts[key]:
            yield first
            yield from packets
            return
    raise _SeekMissed


def _to_rgb(frame: VideoFrame, index: PacketIndex, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    sideways = index.rotation % 180 != 0
    width, height = (index.height, index.width) if sideways else (index.width, index.height)
    rgb = reformatter.reformat(frame, width=width, height=height, format="rgb24").to_ndarray()
    return np.rot90(rgb.view(np.uint8), index.rotation // 90)
