"""A video stream opened with PyAV: packets and frames, with an end to everything."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import cast

from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mvit_video.data.readers.container import MAX_PIXELS, Translated, as_fraction, open_container
from mvit_video.data.readers.signature import check_claims
from mvit_video.data.readers.source import Source, check_source
from mvit_video.types import VideoDecodeError

MAX_EDGE = 16384
_STALL_SECONDS = 6.0


class DecodeFailed(Exception):
    """The decoder met data that it does not accept; the text says what it said, `pts` which packet it was."""

    pts: int | None = None


class OpenStream:
    """The best video stream of a source, set to decode in one thread.

    Args:
        conceal: let the codec paper over damage; without it damaged data fail.

    Raises:
        VideoDecodeError: the source is missing, empty, no video, or too large.
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
        """Choose FFmpeg's best video stream; every backend, scan and prepare read the same one."""
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
        # frame threads have been seen to deadlock in loader workers, and one thread per worker is the faster set-up
        self.stream.thread_type = "NONE"
        self.codec.thread_count = 1
        self.codec.options = {"max_pixels": str(MAX_PIXELS)} | ({} if self.conceal else {"err_detect": "explode"})

    @property
    def codec_name(self) -> str:
        """FFmpeg's name of the codec, which the decoder's may differ from: "av1", not "libdav1d"."""
        return self.codec.codec.canonical_name

    @property
    def num_video_streams(self) -> int:
        """Video streams of the container, cover images included."""
        return sum(stream.type == "video" for stream in self.container.streams)

    @property
    def time_base(self) -> Fraction | None:
        """Seconds per unit of time stamps, where the container says."""
        return as_fraction(self.stream.time_base)

    @property
    def mean_rate(self) -> Fraction | None:
        """Frames per second by the header or the first packets, where they say."""
        return as_fraction(self.stream.average_rate)

    @property
    def likely_rate(self) -> Fraction:
        """Frames per second that fit most of the video, for an encoder that must be given some."""
        return self.mean_rate or as_fraction(self.stream.guessed_rate) or Fraction(30)

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it: a forked copy shares the position in the file with its parent."""
        return self._process == os.getpid()

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Packets from where the stream stands, the last one empty.

        Raises:
            VideoDecodeError: reading fails, or does not come to an end.
        """
        # a damaged index can lead a demuxer round in circles
        budget = 8 * self.size_bytes + 2**20
        with Translated(self.source):
            for packet in self.container.demux(self.stream):
                budget -= packet.size + 1
                if budget < 0:
                    raise VideoDecodeError(self.source.name, "its packets repeat without end")
                yield packet

    def frames(self, packets: Iterator[Packet[VideoStream] | None]) -> Iterator[VideoFrame]:
        """Frames of packets, of which None makes the decoder give what it holds back.

        Pictures that precede the first key frame, in the file or in presentation, may fail: they refer to what is not
        there, and nothing after it refers to them.

        Raises:
            DecodeFailed: the decoder refuses a packet.
            VideoDecodeError: it works without giving a frame.
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
                # the decoder knows that something is amiss, though it does not call it an error
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
        """Every frame in presentation order; those that an edit list hides do not come.

        Raises:
            VideoDecodeError: the decoder meets data that it does not accept.
        """
        num_frames = 0
        try:
            for frame in self.frames(self.packets()):
                yield frame
                num_frames += 1
        except DecodeFailed as error:
            raise VideoDecodeError(self.source.name, f"decoding ends after {num_frames} frames ({error})") from error

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Frames that a packet sets free; None sets free those that are held back."""
        try:
            return self.codec.decode(packet)
        except EOFError:
            return []
        except (FFmpegError, MemoryError) as error:
            raise DecodeFailed(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error

    def seek(self, pts: int) -> None:
        """Go to a key frame at or before a time stamp."""
        depth = self.codec.reorder_depth
        self.container.seek(pts, stream=self.stream, backward=True)
        # what the decoder has learned of the order of frames must survive, or frames are dropped after the jump
        if self.codec.reorder_depth < depth:
            self.codec.reorder_depth = depth

    def close(self) -> None:
        """Let the source go."""
        self.container.close()

    def __del__(self) -> None:
        # containers are parts of reference cycles: without this, files stay open until the collector runs
        if hasattr(self, "container"):
            self.container.close()

    def __enter__(self) -> OpenStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
