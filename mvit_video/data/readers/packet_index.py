"""What one pass over the packets of a video tells: which frames there are and how they can be reached."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mvit_video.types import VideoDecodeError

# elsewhere (AVI above all) the time stamps of reordered frames are guessed by the demuxer
_STORES_PTS = {"mov", "matroska", "mpegts", "mpeg", "flv"}
_DECORD_CONTAINERS = {"mov", "matroska"}


@dataclass(frozen=True)
class Source:
    """Where a video comes from: a file, or bytes with a name for messages."""

    name: str
    data: bytes | None = None

    def handle(self) -> str | io.BytesIO:
        """What a decoder opens."""
        return self.name if self.data is None else io.BytesIO(self.data)


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """The frames of a video in presentation order.

    Attributes:
        num_frames: frames that come out of the decoder; those that an edit list discards are not counted.
        fps: mean frames per second.
        height: pixels after rotation.
        width: pixels after rotation.
        rotation: degrees counter-clockwise by which a decoded frame is to be turned, a multiple of 90.
        pts: time stamps of the frames, rising; None when they cannot be trusted and frames have to be counted.
        key_pts: time stamps of the frames at which decoding can start, rising.
        decord_refusal: why decord would return other frames, None when it is exact.
    """

    num_frames: int
    fps: float
    height: int
    width: int
    rotation: int
    pts: NDArray[np.int64] | None
    key_pts: NDArray[np.int64]
    decord_refusal: str | None


@contextmanager
def open_stream(source: Source) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The best video stream of a source, set to decode in one thread; errors of the library become ours.

    Raises:
        VideoDecodeError: the source is missing, empty, no video, or damaged where it is read.
    """
    _check_file(source)
    try:
        with av.open(source.handle(), metadata_errors="ignore") as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream):
                raise VideoDecodeError(source.name, "no video stream")
            if not stream.codec_context:
                raise VideoDecodeError(source.name, "no decoder for its codec")
            # frame threads have been seen to deadlock in loader workers, and one thread per worker is the faster set-up
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            yield container, stream
    except FFmpegError as error:
        raise VideoDecodeError(source.name, f"cannot be decoded ({error.strerror or error})") from error
    except (OSError, EOFError) as error:
        raise VideoDecodeError(source.name, f"cannot be read ({error})") from error


def scan_packets(source: Source) -> PacketIndex:
    """Read every packet of a source once and decode its first frame."""
    rows: list[tuple[int | None, bool, bool]] = []
    first: VideoFrame | None = None
    with open_stream(source) as (container, stream):
        for packet in container.demux(stream):
            if first is None:
                first = next(iter(packet.decode()), None)
            if packet.size > 0:  # the last one only flushes
                rows.append((packet.pts, packet.is_keyframe, packet.is_discard))
        containers = set(container.format.name.split(","))
        codec = stream.codec_context.name
        rate, time_base = stream.average_rate, stream.time_base
    if first is None:
        raise VideoDecodeError(source.name, f"no frame of its {codec} stream can be decoded")

    packets = _trusted_packets(rows, bool(containers & _STORES_PTS))
    if packets is None:
        num_frames, pts, key_pts = _count_frames(source), None, np.empty(0, dtype=np.int64)
        refusal = "its time stamps do not tell the order of the frames"
    else:
        pts = np.sort(packets.pts[~packets.is_discarded])
        num_frames, key_pts = len(pts), np.sort(packets.pts[packets.is_key])
        refusal = _decord_refusal(packets)
    if not containers & _DECORD_CONTAINERS:
        refusal = f"its container is {container.format.name}"
    elif codec == "av1":
        refusal = "its codec is av1"
    elif any(component.bits > 8 for component in first.format.components):
        refusal = f"its colours have more than 8 bits ({first.format.name})"
    rotation = round(first.rotation / 90) * 90
    sideways = rotation % 180 != 0
    return PacketIndex(
        num_frames=num_frames,
        fps=_mean_rate(source, rate, time_base, num_frames, pts),
        height=first.width if sideways else first.height,
        width=first.height if sideways else first.width,
        rotation=rotation,
        pts=pts,
        key_pts=key_pts,
        decord_refusal=refusal,
    )


def _check_file(source: Source) -> None:
    if source.data is not None:
        if not source.data:
            raise VideoDecodeError(source.name, "is empty")
    elif not os.path.exists(source.name):
        raise VideoDecodeError(source.name, "no such file")
    elif os.path.isdir(source.name):
        raise VideoDecodeError(source.name, "is a folder, not a video file")
    elif os.path.getsize(source.name) == 0:
        raise VideoDecodeError(source.name, "is an empty file")


class _Packets(NamedTuple):
    """Columns, one row per packet, in decode order."""

    pts: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    is_discarded: NDArray[np.bool_]


def _trusted_packets(rows: list[tuple[int | None, bool, bool]], stores_pts: bool) -> _Packets | None:
    """The packets, or None when the decoder's output cannot be told from their time stamps."""
    stamps, is_key, is_discarded = zip(*rows, strict=True)
    if None in stamps:
        return None
    packets = _Packets(np.array(stamps, dtype=np.int64), np.array(is_key), np.array(is_discarded))
    kept = packets.pts[~packets.is_discarded]
    if len(np.unique(kept)) != len(kept):
        return None
    if not stores_pts and (np.diff(packets.pts) < 0).any():
        return None
    # pictures before the first key frame refer to what is not there, and decoders drop them or not
    if not packets.is_key[0] or packets.pts.min() < packets.pts[0]:
        return None
    return packets


def _decord_refusal(packets: _Packets) -> str | None:
    """Why decord's seeking would go wrong: it counts packets in decode order, but numbers frames by time stamp."""
    if packets.is_discarded.any():
        return f"an edit list discards {packets.is_discarded.sum()} of its frames"
    if packets.pts.min() < 0:
        return "its first frame has a negative time stamp"
    display_rank = np.empty(len(packets.pts), dtype=np.int64)
    display_rank[np.argsort(packets.pts)] = np.arange(len(packets.pts))
    if (display_rank[packets.is_key] != np.flatnonzero(packets.is_key)).any():
        return "frames from before a key frame are stored after it (open GOP)"
    return None


def _count_frames(source: Source) -> int:
    with open_stream(source) as (container, stream):
        return sum(1 for _ in container.decode(stream))


def _mean_rate(
    source: Source, header: Fraction | None, time_base: Fraction | None, num_frames: int, pts: NDArray[np.int64] | None
) -> float:
    """The header's frames per second, unless the time stamps contradict it by more than one percent."""
    if pts is not None and time_base is not None and num_frames > 1:
        measured = float((num_frames - 1) / (int(pts[-1] - pts[0]) * time_base))
        return float(header) if header and abs(header / measured - 1) <= 0.01 else measured
    if not header:
        raise VideoDecodeError(source.name, "neither its header nor its time stamps tell the frame rate")
    return float(header)
