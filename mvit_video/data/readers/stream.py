"""Video streams opened with PyAV 17 to 19: packets and frames, with limits on time and size."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Protocol, cast

import av
from av.container import InputContainer
from av.error import ExitError, FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mvit_video.data.readers.source import Source, Translated, check_claims, check_source
from mvit_video.types import VideoDecodeError

MAX_PIXELS = 2**28
# a playlist would make FFmpeg open other files and addresses, and it reads texts and images as videos
_FORMATS = (
    "mov mp4 m4a 3gp 3g2 mj2 matroska webm avi mpegts mpegtsraw mpeg mpegvideo flv live_flv asf asf_o ogg nut mxf rm "
    "dv dhav gxf ivf m4v h261 h263 h264 hevc vvc av1 obu vc1 mjpeg gif nsv nuv ivr wtv ty smjpeg film_cpk bink smk"
)

_OPEN_SECONDS = 8.0
# PyAV limits wall-clock time, which is short on a busy machine or a slow share
_OPEN_TRIES = 6
_READ_SECONDS = 120.0
# metadata need not be UTF-8; PyAV 19 handles this and has no such argument
_METADATA: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


class Rational(Protocol):
    """PyAV's rational number: a `Fraction` up to version 18, `av.rational.AVRational` since 19."""

    @property
    def numerator(self) -> int: ...

    @property
    def denominator(self) -> int: ...


def as_fraction(value: Rational | None) -> Fraction | None:
    """Convert to a `Fraction`; None for unknown values, which FFmpeg writes as 0/1 or 0/0."""
    if value is None or value.numerator == 0 or value.denominator == 0:
        return None
    return Fraction(value.numerator, value.denominator)


def open_container(source: Source) -> InputContainer:
    """Open a video container for reading."""
    # limits the size while FFmpeg probes the file
    options = {"format_whitelist": ",".join(_FORMATS.split()), "max_pixels": str(MAX_PIXELS)}
    seconds = _OPEN_SECONDS
    for _ in range(_OPEN_TRIES):
        began = time.thread_time()
        try:
            with Translated(source):
                return av.open(source.handle(), "r", options=options, timeout=(seconds, _READ_SECONDS), **_METADATA)
        except VideoDecodeError as error:
            # FFmpeg used that time, rather than wait for a core or a disk
            if not isinstance(error.__cause__, ExitError) or time.thread_time() - began > _OPEN_SECONDS / 2:
                raise
            seconds *= 2
    raise VideoDecodeError(source.name, f"could not be opened within {seconds:.0f} s")


def x264_options(preset: str, crf: int, *, b_frames: bool = True, **parameters: int | str) -> dict[str, str]:
    """Return options of FFmpeg's `libx264` for reproducible bytes.

    One thread, since the bytes depend on the number of threads. No macroblock tree with B-frames: it reads
    uninitialised memory, so that bytes differ from run to run (tests/curation/test_x264.py).

    Args:
        crf: constant rate factor, 0 (lossless) to 51.
        parameters: other options of x264, such as `keyint`.
    """
    own = {"mbtree": 0} if b_frames else {"bframes": 0}
    text = ":".join(f"{name.replace('_', '-')}={value}" for name, value in (own | parameters).items())
    return {"preset": preset, "crf": str(crf), "threads": "1", "x264-params": text}


MAX_EDGE = 16384
_STALL_SECONDS = 6.0


class DecodeFailed(Exception):
    """Data that the decoder does not accept; the text is its message, `pts` the packet."""

    pts: int | None = None


class OpenStream:
    """Best video stream of a source, decoded in one thread.

    Args:
        conceal: let the codec conceal damage; otherwise damaged data fail.

    Raises:
        VideoDecodeError: the source is missing, empty, too large, or not a video.
    """

    def __init__(self, source: Source, *, conceal: bool = False) -> None:
        status = check_source(source)
        self.source = source
        self.conceal = conceal
        self.size_bytes = source.num_bytes(status)
        self._process = os.getpid()
        check_claims(source, self.size_bytes)
        self.container = open_container(source)
        try:
            self.stream = self._best_stream()
            self.codec = cast(VideoCodecContext, self.stream.codec_context)
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _best_stream(self) -> VideoStream:
        """Return FFmpeg's best video stream, which every backend, scan and prepare read."""
        stream = self.container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            raise VideoDecodeError(self.source.name, "no video stream")
        if not stream.codec_context:
            raise VideoDecodeError(self.source.name, "no decoder for its codec")
        return stream

    def _prepare(self) -> None:
        width, height = self.codec.width, self.codec.height
        if max(width, height) > MAX_EDGE or width * height > MAX_PIXELS:
            raise VideoDecodeError(
                self.source.name, f"declares frames of {width}x{height} pixels, more than {MAX_EDGE}x{MAX_EDGE}"
            )
        for other in self.container.streams:
            if other is not self.stream:
                other.discard = Discard.all
        # frame threads can deadlock in loader workers, and one thread per worker is faster
        self.stream.thread_type = "NONE"
        self.codec.thread_count = 1
        self.codec.options = {"max_pixels": str(MAX_PIXELS)} | ({} if self.conceal else {"err_detect": "explode"})

    @property
    def codec_name(self) -> str:
        """FFmpeg's name of the codec, such as "av1"; the decoder's may differ ("libdav1d")."""
        return self.codec.codec.canonical_name

    @property
    def num_video_streams(self) -> int:
        """Video streams of the container, cover images included."""
        return sum(stream.type == "video" for stream in self.container.streams)

    @property
    def time_base(self) -> Fraction | None:
        """Seconds per unit of time stamps, if known."""
        return as_fraction(self.stream.time_base)

    @property
    def mean_rate(self) -> Fraction | None:
        """Frames per second by the header or the first packets, if known."""
        return as_fraction(self.stream.average_rate)

    @property
    def likely_rate(self) -> Fraction:
        """Frames per second for an encoder, which needs a value."""
        return self.mean_rate or as_fraction(self.stream.guessed_rate) or Fraction(30)

    @property
    def is_ours(self) -> bool:
        """Whether this process opened the stream: a fork shares the position in the file with its parent."""
        return self._process == os.getpid()

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield packets from the current position, an empty one last.

        Raises:
            VideoDecodeError: reading fails, or does not end.
        """
        # a damaged index can send a demuxer in circles
        budget = 8 * self.size_bytes + 2**20
        with Translated(self.source):
            for packet in self.container.demux(self.stream):
                budget -= packet.size + 1
                if budget < 0:
                    raise VideoDecodeError(self.source.name, "its packets repeat without end")
                yield packet

    def frames(self, packets: Iterator[Packet[VideoStream] | None]) -> Iterator[VideoFrame]:
        """Yield the frames of packets; None flushes the decoder.

        Frames before the first key frame, in the file or in presentation, may fail: they refer to missing frames, and
        no later frame refers to them.

        Raises:
            DecodeFailed: the decoder refuses a packet.
            VideoDecodeError: the decoder returns no frame in time.
        """
        deadline, key_pts = time.thread_time() + _STALL_SECONDS, None
        for packet in packets:
            if key_pts is None and packet is not None and packet.is_keyframe:
                key_pts = packet.pts if packet.pts is not None else -(2**63)
            try:
                frames = self.decode(packet)
            except DecodeFailed as error:
                error.pts = packet.pts if packet is not None else None
                if key_pts is None or (error.pts is not None and error.pts < key_pts):
                    continue
                raise
            for frame in frames:
                # the decoder found an error, but did not raise one
                if frame.is_corrupt and not self.conceal and key_pts is not None and (frame.pts or 0) >= key_pts:
                    error = DecodeFailed("the decoder marks a frame as corrupt")
                    error.pts = frame.pts
                    raise error
                yield frame
            if frames:
                deadline = time.thread_time() + _STALL_SECONDS
            elif time.thread_time() > deadline:
                raise VideoDecodeError(self.source.name, f"no frame came within {_STALL_SECONDS:.0f} s of decoding")

    def all_frames(self) -> Iterator[VideoFrame]:
        """Yield every frame in presentation order, except frames that an edit list hides.

        Raises:
            VideoDecodeError: the decoder refuses a packet.
        """
        num_frames = 0
        try:
            for frame in self.frames(self.packets()):
                yield frame
                num_frames += 1
        except DecodeFailed as error:
            raise VideoDecodeError(self.source.name, f"decoding ends after {num_frames} frames ({error})") from error

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Return the frames that the decoder has after a packet; None flushes it."""
        try:
            return self.codec.decode(packet)
        except EOFError:
            return []
        except (FFmpegError, MemoryError) as error:
            raise DecodeFailed(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error

    def seek(self, pts: int) -> None:
        """Move to a key frame at or before a time stamp."""
        depth = self.codec.reorder_depth
        self.container.seek(pts, stream=self.stream, backward=True)
        # the decoder must keep the reorder depth that it has found, or it drops frames after the jump
        if self.codec.reorder_depth < depth:
            self.codec.reorder_depth = depth

    def close(self) -> None:
        """Close the source."""
        self.container.close()

    def __del__(self) -> None:
        # containers are in reference cycles: without this, files stay open until the collector runs
        if hasattr(self, "container"):
            self.container.close()

    def __enter__(self) -> OpenStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
