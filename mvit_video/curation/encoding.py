"""Re-encoding of one video: all frames and times kept, upright, small, with regular key frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple, cast

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mvit_video.data.readers.source import Source
from mvit_video.data.readers.stream import OpenStream, x264_options
from mvit_video.jobs import atomic_write
from mvit_video.types import ConfigError, VideoDecodeError

_FRAMES_PER_SIGN = 16


@dataclass(frozen=True)
class EncodeSettings:
    """Settings of the encoder.

    Attributes:
        short_side: pixels of the short side; a smaller video keeps its size, rounded down to even numbers.
        gop: frames from one key frame to the next.
        crf: x264's constant rate factor, 0 (lossless) to 51.
    """

    short_side: int = 256
    gop: int = 32
    crf: int = 20

    def __post_init__(self) -> None:
        if self.short_side < 2 or self.short_side % 2:
            raise ConfigError(f"--short-side must be an even number of pixels, got {self.short_side}")
        if self.gop < 1:
            raise ConfigError(f"--gop must be at least 1, got {self.gop}")
        if not 0 <= self.crf <= 51:
            raise ConfigError(f"--crf must be from 0 to 51, got {self.crf}")

    def __str__(self) -> str:
        return f"short_side={self.short_side} gop={self.gop} crf={self.crf}"


class Encoded(NamedTuple):
    """Frames of the new video, and whether the decoder concealed errors in the source."""

    num_frames: int
    is_damaged: bool


class _StampsUnusable(Exception):
    """Time stamps are missing or do not increase."""


def encode_video(source: str, target: Path, settings: EncodeSettings, heartbeat: Callable[[], None]) -> Encoded:
    """Encode the video of a file as H.264 in MP4, without sound.

    Raises:
        VideoDecodeError: a frame cannot be decoded.
        FFmpegError: the encoder refuses the video.
        OSError: the target cannot be written.
    """
    conceal, is_counted = False, False
    while True:
        try:
            return _encode(source, target, settings, heartbeat, conceal=conceal, is_counted=is_counted)
        except VideoDecodeError:
            if conceal:
                raise
            conceal = True
        except _StampsUnusable:
            is_counted = True


def _encode(
    source: str,
    target: Path,
    settings: EncodeSettings,
    heartbeat: Callable[[], None],
    *,
    conceal: bool,
    is_counted: bool,
) -> Encoded:
    """Encode once.

    Args:
        conceal: let the codec conceal damage.
        is_counted: space frames evenly rather than by their time stamps.
    """
    num_packets = 0
    with (
        OpenStream(Source(source), conceal=conceal) as opened,
        atomic_write(target) as unfinished,
        av.open(str(unfinished), "w", format="mp4", container_options={"movflags": "+faststart"}) as output,
    ):
        frames = opened.all_frames()
        first = next(frames, None)
        if first is None:
            raise VideoDecodeError(source, "no frame can be decoded")
        reshaper = _Reshaper(first, settings.short_side)
        encoder, time_base = _add_encoder(output, opened, reshaper, settings, is_counted=is_counted)
        start, last, rank = first.pts, -1, -1
        for rank, frame in enumerate(chain([first], frames)):
            pts = rank
            if not is_counted:
                if frame.pts is None or start is None or frame.pts - start <= last:
                    raise _StampsUnusable
                pts = frame.pts - start
            last = pts
            num_packets += _mux(output, encoder, reshaper.draw(frame, pts, time_base))
            if rank % _FRAMES_PER_SIGN == 0:
                heartbeat()
        num_packets += _mux(output, encoder, None)
    assert num_packets == rank + 1, f"{source}: {rank + 1} frames became {num_packets} packets"
    return Encoded(num_packets, conceal)


def _add_encoder(
    output: OutputContainer, source: OpenStream, reshaper: _Reshaper, settings: EncodeSettings, *, is_counted: bool
) -> tuple[VideoStream, Fraction]:
    """Return the stream to write, and the seconds per unit of its time stamps."""
    rate = source.likely_rate
    time_base = 1 / rate if is_counted else source.time_base or 1 / rate
    options = x264_options("fast", settings.crf, keyint=settings.gop, min_keyint=settings.gop, scenecut=0, open_gop=0)
    encoder = output.add_stream("libx264", rate, options=options)
    context = encoder.codec_context
    context.width, context.height = reshaper.width, reshaper.height
    context.pix_fmt = "yuv420p"
    context.time_base = encoder.time_base = time_base
    context.color_range = ColorRange.MPEG
    # unchanged, but decoders need them for the right colours
    for name in ("colorspace", "color_primaries", "color_trc"):
        setattr(context, name, getattr(source.codec, name))
    return encoder, time_base


def _mux(output: OutputContainer, encoder: VideoStream, frame: VideoFrame | None) -> int:
    """Encode a frame, or flush with None; return the number of packets."""
    packets = encoder.encode(frame)
    output.mux(packets)
    return len(packets)


class _Reshaper:
    """Conversion of frames: upright, small and of even size."""

    def __init__(self, first: VideoFrame, short_side: int) -> None:
        self._turns = round(first.rotation / 90) % 4
        scale = min(1.0, short_side / min(first.width, first.height))
        # rounded so that the short side is exact
        self._width, self._height = (
            max(2, int(round(edge * scale, 6)) // 2 * 2) for edge in (first.width, first.height)
        )
        self.width, self.height = (self._height, self._width) if self._turns % 2 else (self._width, self._height)
        self._reformatter = VideoReformatter()

    def draw(self, frame: VideoFrame, pts: int, time_base: Fraction) -> VideoFrame:
        """Return the frame to encode."""
        is_full_range = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        small = self._reformatter.reformat(
            frame, self._width, self._height, "yuv420p", interpolation=Interpolation.BICUBIC, threads=1,
            src_color_range=ColorRange.JPEG if is_full_range else ColorRange.MPEG, dst_color_range=ColorRange.MPEG,
        )  # fmt: skip
        if self._turns:
            planes = cast(NDArray[np.uint8], small.to_ndarray())
            small = VideoFrame.from_ndarray(_turn(planes, self._height, self._turns), format="yuv420p")
        small.pts, small.time_base = pts, time_base
        small.pict_type = PictureType.NONE  # do not keep the key frames of the source
        return small


def _turn(planes: NDArray[np.uint8], height: int, turns: int) -> NDArray[np.uint8]:
    """Rotate a frame of stacked planes, luma above two chroma planes of half size, counter-clockwise."""
    width = planes.shape[1]
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    turned = [np.rot90(plane, turns) for plane in (planes[:height], *chroma)]
    return np.concatenate([plane.ravel() for plane in turned]).reshape(-1, turned[0].shape[1])
