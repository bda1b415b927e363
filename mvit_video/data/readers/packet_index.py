"""Packet index of a video: one pass over its packets finds the frames and how to reach them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mvit_video.data.readers.source import Source, container_by_signature, read_head
from mvit_video.data.readers.stream import DecodeFailed, OpenStream
from mvit_video.types import VideoDecodeError

# in other containers, such as AVI, the demuxer guesses time stamps of reordered frames
_STORES_PTS = {"mov", "matroska", "mpegts", "mpeg", "flv"}
_OTHERS_READ = {"mov", "matroska"}
# MPEG-4 repeats a frame with a packet of at most this size, and the decoder returns nothing for it
_NOT_CODED_BYTES = 8
_TRIED_PACKETS = 6
# decord allocates memory for every possible frame in a gap
_LEAP_SECONDS = 3600
_NO_PTS = -(2**63)


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """Frames of a video in presentation order.

    Attributes:
        num_frames: frames that the decoder returns, without frames that an edit list discards.
        fps: mean frames per second.
        duration_seconds: from the first frame's time stamp to the end of the last frame.
        height: pixels after rotation.
        width: pixels after rotation.
        rotation: degrees counter-clockwise by which to turn a decoded frame, a multiple of 90.
        time_base: seconds per unit of time stamps.
        pts: increasing time stamps of the frames; None if the stream has none.
        key_pts: increasing time stamps of the key frames; empty if frames are found by counting from the first.
        is_damaged: whether frames had to be counted and errors were concealed.
        codec: FFmpeg's name of the codec.
        container: FFmpeg's first name of the container; "mov" covers MP4, "matroska" covers WebM.
        decord_refusal: why decord would return other frames; None if it is exact.
        torchcodec_refusal: why torchcodec would return other frames; None if it is exact.
    """

    num_frames: int
    fps: float
    duration_seconds: float
    height: int
    width: int
    rotation: int
    time_base: Fraction
    pts: NDArray[np.int64] | None
    key_pts: NDArray[np.int64]
    is_damaged: bool
    codec: str
    container: str
    decord_refusal: str | None
    torchcodec_refusal: str | None

    @property
    def is_seekable(self) -> bool:
        """Whether frames are found by time stamps rather than by counting."""
        return len(self.key_pts) > 0

    @property
    def timestamps(self) -> NDArray[np.float64]:
        """Seconds since the first frame."""
        if self.pts is None:
            return np.arange(self.num_frames) / self.fps
        return (self.pts - self.pts[0]) * float(self.time_base)


def scan_packets(opened: OpenStream) -> PacketIndex:
    """Read every packet of a stream once and decode its first frame.

    Raises:
        VideoDecodeError: the file is truncated, or no frame can be decoded.
    """
    name, codec, time_base = opened.source.name, opened.codec_name, opened.time_base or Fraction(1, 1000)
    container = opened.container.format.name.split(",")[0]
    packets, first = _read_packets(opened)
    key_pts, is_damaged, last_duration = np.empty(0, dtype=np.int64), False, 0
    refusal = _container_refusal(opened, container)
    is_paired = first is not None and first.interlaced_frame and _pairs_packets(opened.source)
    may_reorder = opened.codec.reorder_depth > 0
    if not is_paired and _are_trusted(packets, container, codec, may_reorder):
        pts, key_pts = np.sort(packets.pts[packets.is_shown]), np.sort(packets.pts[packets.is_key])
        num_frames, last_duration = len(pts), int(packets.duration[packets.pts.argmax()])
        first = first or _first_frame(opened.source)
        refusal = refusal or _refusal(packets)
        decord_refusal = refusal or _decord_refusal(packets, codec, time_base)
    else:
        num_frames, pts, first, is_damaged = _count_frames(opened.source)
        decord_refusal = refusal = refusal or "its time stamps do not give the order of the frames"
    if first is None or num_frames == 0:
        raise VideoDecodeError(name, f"no frame of its {codec} stream can be decoded")
    rotation = round(first.rotation / 90) * 90
    sideways = rotation % 180 != 0
    span = None if pts is None else float(int(pts[-1] - pts[0]) * time_base)
    step_seconds = span / (num_frames - 1) if span and num_frames > 1 else None
    fps = _mean_rate(name, opened.mean_rate, step_seconds)
    last_seconds = float(last_duration * time_base) or step_seconds or 1 / fps
    colour_refusal = _colour_refusal(first)
    return PacketIndex(
        num_frames=num_frames,
        fps=fps,
        duration_seconds=num_frames / fps if span is None else span + last_seconds,
        height=first.width if sideways else first.height,
        width=first.height if sideways else first.width,
        rotation=rotation,
        time_base=time_base,
        pts=pts,
        key_pts=key_pts,
        is_damaged=is_damaged,
        codec=codec,
        container=container,
        decord_refusal=decord_refusal or colour_refusal,
        torchcodec_refusal=refusal or colour_refusal,
    )


class _Packets(NamedTuple):
    """Columns, one row per packet, in decode order."""

    pts: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    is_shown: NDArray[np.bool_]
    is_discarded: NDArray[np.bool_]
    size: NDArray[np.int64]
    duration: NDArray[np.int64]


class _Counted(NamedTuple):
    """Result of decoding all frames."""

    num_frames: int
    pts: NDArray[np.int64] | None
    first: VideoFrame | None
    is_damaged: bool


def _read_packets(opened: OpenStream) -> tuple[_Packets, VideoFrame | None]:
    """Return the packets, and the first frame if the first packet alone yields it."""
    first: VideoFrame | None = None
    rows: list[tuple[int, bool, bool, bool, int, int]] = []
    is_vp8 = opened.codec_name == "vp8"
    for packet in opened.packets():
        if not rows:
            first = _decode_alone(opened, packet)
        pts, size, is_discarded = packet.pts, packet.size, packet.is_discard
        is_shown = not is_discarded and not (is_vp8 and size and _is_hidden(packet))
        pts = _NO_PTS if pts is None else pts
        rows.append((pts, packet.is_keyframe, is_shown, is_discarded, size, packet.duration or 0))
    del rows[-1]  # the empty packet that flushes the decoder
    if not rows:
        raise VideoDecodeError(opened.source.name, "holds no packet of its video stream")
    _check_complete(opened, len(rows))
    pts, is_key, is_shown, is_discarded, size, duration = np.array(rows, dtype=np.int64).T
    return _Packets(pts, is_key > 0, is_shown > 0, is_discarded > 0, size, duration), first


def _decode_alone(opened: OpenStream, packet: Packet[VideoStream]) -> VideoFrame | None:
    try:
        frames = opened.decode(packet)
        return next(iter(frames or opened.decode(None)), None)
    except DecodeFailed:
        return None


def _is_hidden(packet: Packet[VideoStream]) -> bool:
    """Return whether a VP8 frame is only a reference; it shares the time stamp of a frame that is shown."""
    return not memoryview(packet)[0] & 0x10


def _check_complete(opened: OpenStream, num_packets: int) -> None:
    entries = opened.stream.index_entries
    if len(entries) <= num_packets:
        return
    end = max(entries[len(entries) - 1].pos + entries[len(entries) - 1].size, 0)
    if end > opened.size_bytes:
        raise VideoDecodeError(
            opened.source.name,
            f"is truncated: its index lists {end} bytes and {len(entries)} frames, "
            f"the file has {opened.size_bytes} bytes and {num_packets} frames",
        )


def _are_trusted(packets: _Packets, container: str, codec: str, may_reorder: bool) -> bool:
    """Return whether the decoder's output follows from the time stamps of the packets."""
    shown = np.sort(packets.pts[packets.is_shown])
    if _NO_PTS in packets.pts or (np.diff(shown) == 0).any():
        return False
    if container not in _STORES_PTS and (may_reorder or (np.diff(packets.pts) < 0).any()):
        return False
    # an empty packet repeats a frame or yields none, depending on the codec
    if (packets.size <= (_NOT_CODED_BYTES if codec == "mpeg4" else 0)).any():
        return False
    # frames before the first key frame refer to missing frames; decoders may drop them
    return bool(packets.is_key[0]) and packets.pts.min() >= packets.pts[0]


def _container_refusal(opened: OpenStream, container: str) -> str | None:
    """Return why other libraries may read another stream, or None."""
    if container not in _OTHERS_READ:
        return f"its container is {opened.container.format.name}"
    if container_by_signature(read_head(opened.source)) != container:
        # another library may read it as a playlist, and open the files that it names
        return f"its first bytes are not those of its container, {container}"
    if opened.num_video_streams > 1:
        # FFmpeg's rule for the best stream depends on the version, and decord does not report its choice
        return f"it has {opened.num_video_streams} video streams"
    return None


def _refusal(packets: _Packets) -> str | None:
    """Return why other libraries number frames differently, or None."""
    if packets.is_discarded.any():
        return "an edit list discards some of its frames"
    if not packets.is_shown.all():
        return "some of its frames are not shown"
    if packets.pts.min() < 0:
        return "its first frame has a negative time stamp"
    return None


def _decord_refusal(packets: _Packets, codec: str, time_base: Fraction) -> str | None:
    """Return why decord would seek to wrong frames: it counts packets in decode order, but frames by time stamp."""
    if codec == "av1":
        return "its codec is av1"
    if int(np.diff(np.sort(packets.pts)).max(initial=0)) * time_base > _LEAP_SECONDS:
        return "its time stamps have gaps for which decord would allocate too much memory"
    display_rank = np.empty(len(packets.pts), dtype=np.int64)
    display_rank[np.argsort(packets.pts)] = np.arange(len(packets.pts))
    if (display_rank[packets.is_key] != np.flatnonzero(packets.is_key)).any():
        return "frames from before a key frame are stored after it (open GOP)"
    return None


def _colour_refusal(first: VideoFrame) -> str | None:
    """Return why other versions of FFmpeg convert its colours differently, or None."""
    if any(component.bits > 8 for component in first.format.components):
        return f"its colours have more than 8 bits ({first.format.name})"
    if first.interlaced_frame:
        return "it is interlaced"
    is_subsampled = first.format.chroma_width(64) < 64 or first.format.chroma_height(64) < 64
    if is_subsampled and (first.width % 2 or first.height % 2):
        return f"its size is odd ({first.width}x{first.height}) and its chroma is subsampled"
    return None


def _first_frame(source: Source) -> VideoFrame | None:
    with OpenStream(source, conceal=True) as opened:
        try:
            return next(opened.frames(opened.packets()), None)
        except DecodeFailed:
            return None


def _pairs_packets(source: Source) -> bool:
    """Return whether two packets, one per field, make a frame."""
    with OpenStream(source, conceal=True) as opened:
        packets = [packet for packet in islice(opened.packets(), _TRIED_PACKETS) if packet.size]
        try:
            return sum(1 for _ in opened.frames(iter([*packets, None]))) < len(packets)
        except DecodeFailed:
            return True


def _count_frames(source: Source) -> _Counted:
    """Decode all frames, concealing damage if the codec can."""
    with suppress(DecodeFailed):
        return _decode_all(source, conceal=False)
    try:
        return _decode_all(source, conceal=True)
    except DecodeFailed as error:
        raise VideoDecodeError(source.name, f"cannot be decoded ({error})") from error


def _decode_all(source: Source, conceal: bool) -> _Counted:
    first, stamps = None, []
    with OpenStream(source, conceal=conceal) as opened:
        for frame in opened.frames(opened.packets()):
            first = first or frame
            stamps.append(frame.pts)
    pts = None if None in stamps else np.array(stamps, dtype=np.int64)
    if pts is not None and (np.diff(pts) <= 0).any():
        pts = None
    return _Counted(len(stamps), pts, first, conceal)


def _mean_rate(name: str, header: Fraction | None, step_seconds: float | None) -> float:
    """Return the header's frames per second, unless the time stamps differ by more than one percent."""
    if step_seconds:
        return float(header) if header and abs(float(header) * step_seconds - 1) <= 0.01 else 1 / step_seconds
    if not header:
        raise VideoDecodeError(name, "neither its header nor its time stamps give a frame rate")
    return float(header)
