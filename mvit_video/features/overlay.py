"""A video with what the model says of it drawn beneath."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mvit_video.data.readers import open_video
from mvit_video.data.readers.container import as_fraction, open_container, x264_options
from mvit_video.data.readers.source import Source
from mvit_video.data.readers.stream import DecodeFailed, OpenStream
from mvit_video.features.classification import Classification
from mvit_video.features.timeline import COLOURS, OTHER, foremost
from mvit_video.jobs import atomic_write, require_writable
from mvit_video.types import ConfigError, VideoDecodeError, printable

SUFFIXES = {"--overlay": ".mp4", "--timeline": ".png"}
_BACKGROUND, _INK, _TRACK = "#15181c", "#f2f4f6", "#2b3036"
_TIME_BASE = Fraction(1, 90_000)
_SIDES = 360, 720  # of the shorter edge: smaller leaves no room for words, larger takes long to encode
_BT709 = 1
# what players expect in MP4
_SOUNDS = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")


class Overlay(NamedTuple):
    """What was written.

    Attributes:
        has_sound: whether the sound of the video is in it.
    """

    num_frames: int
    has_sound: bool


def write_overlay(
    source: Path, timeline: Classification, target: Path, *, count: int = 3, reached: Callable[[float], None]
) -> Overlay:
    """Encodes the video anew with a panel beneath: the most probable classes of the moment and a strip of all time.

    Frames keep their times; one at a time is in memory. Frames that do not decode are left out with a warning. Sound
    that MP4 can hold is copied.

    Args:
        target: MP4 file, there whole or not at all.
        count: classes that are named.
        reached: told after each frame how many seconds are done.

    Raises:
        ConfigError: the target is no `.mp4`, the video itself, or cannot be written.
        VideoDecodeError: no frame can be decoded.
    """
    check_target(source, target, "--overlay")
    with open_video(source, "pyav") as reader:
        times = reader.timestamps.tolist()
    try:
        with atomic_write(target) as unfinished, ExitStack() as stack:
            opened = stack.enter_context(OpenStream(Source(str(source)), conceal=True))
            output = stack.enter_context(
                av.open(str(unfinished), "w", format="mp4", container_options={"movflags": "+faststart"})
            )
            sound = _Sound(opened, output, stack)
            frames = _TimedFrames(opened, times)
            return _encode(frames, output, sound, lambda first: _Canvas(first, timeline, count), reached)
    except (OSError, FFmpegError) as error:
        raise ConfigError(
            f"--overlay {target}: cannot be written ({getattr(error, 'strerror', None) or error})"
        ) from error


def check_target(source: Path, target: Path, option: str) -> None:
    """Refuse a file that nothing of a video can be drawn to.

    Args:
        option: by which the user named it, one of `SUFFIXES`.

    Raises:
        ConfigError: it has another suffix, is the video itself, or cannot be written.
    """
    suffix = SUFFIXES[option]
    if target.suffix.lower() != suffix:
        raise ConfigError(f"{option} {target}: is written as {suffix}; give a name that ends so")
    if target.exists() and source.exists() and target.samefile(source):
        raise ConfigError(f"{option} {target} is the video itself; give another file")
    require_writable(target, option)


class _TimedFrames:
    """The frames of a video that decode, in order, and when each of them is shown.

    Attributes:
        opened: the video.
        lost: why the first of those that are missing is missing; None while none is.
    """

    def __init__(self, opened: OpenStream, times: Sequence[float]) -> None:
        self.opened, self._times = opened, iter(times)
        self.lost: str | None = None

    def __iter__(self) -> Iterator[tuple[VideoFrame, float]]:
        packets, step = self.opened.packets(), float(1 / self.opened.likely_rate)
        seconds, first = -step, None
        while True:
            try:
                for frame in self.opened.frames(packets):
                    first = frame.pts if first is None else first
                    seconds = self._seconds(frame, first, seconds + step)
                    yield frame, seconds
                return
            except DecodeFailed as error:  # of one packet: the others may be whole
                self.lost = self.lost or str(error)
            except VideoDecodeError as error:
                self.lost = self.lost or error.reason
                return

    def _seconds(self, frame: VideoFrame, first: int | None, following: float) -> float:
        """When a frame is shown; behind a missing one its own time stamp tells, or that it follows the last one."""
        if self.lost is None:
            return next(self._times, following)
        if frame.pts is None or first is None or self.opened.time_base is None:
            return following
        return float((frame.pts - first) * self.opened.time_base)


def _encode(
    frames: _TimedFrames,
    output: OutputContainer,
    sound: _Sound,
    canvas_of: Callable[[VideoFrame], _Canvas],
    reached: Callable[[float], None],
) -> Overlay:
    rate = frames.opened.likely_rate
    canvas, encoder, last, number = None, None, -1, 0
    for frame, seconds in frames:
        if canvas is None or encoder is None:
            canvas = canvas_of(frame)
            encoder = _add_encoder(output, rate, canvas.width, canvas.height)
            sound.start()
        last = max(last + 1, round(seconds / _TIME_BASE))
        picture = canvas.draw(frame, seconds)
        picture.pts, picture.time_base = last, _TIME_BASE
        sound.copy_until(seconds)
        output.mux(encoder.encode(picture))
        number += 1
        reached(seconds)
    if encoder is None:
        raise VideoDecodeError(frames.opened.source.name, frames.lost or "no frame can be decoded")
    output.mux(encoder.encode(None))
    sound.copy_until(float(last * _TIME_BASE + 1 / rate))
    if frames.lost is not None:
        warnings.warn(f"{frames.opened.source.name}: the overlay lacks frames ({frames.lost})", stacklevel=3)
    return Overlay(number, sound.is_copied)


def _add_encoder(output: OutputContainer, rate: Fraction, width: int, height: int) -> VideoStream:
    encoder = output.add_stream("libx264", rate, options=x264_options("veryfast", 20))
    context = encoder.codec_context
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = encoder.time_base = _TIME_BASE
    context.color_range = ColorRange.MPEG
    for name in ("colorspace", "color_primaries", "color_trc"):
        setattr(context, name, _BT709)
    return encoder


class _Canvas:
    """Draws frames, and a panel that changes with the window."""

    def __init__(self, first: VideoFrame, timeline: Classification, count: int) -> None:
        self._turns = round(first.rotation / 90) % 4
        self._timeline, self._count = timeline, min(count, timeline.probabilities.shape[1])
        smallest, largest = _SIDES
        short = min(first.width, first.height)
        scale = min(max(short, smallest), largest) / short
        self._size = tuple(max(2, round(edge * scale / 2) * 2) for edge in (first.width, first.height))
        self.width, shown = self._size[::-1] if self._turns % 2 else self._size
        self._line = max(14, min(self.width, shown) // 16) // 2 * 2
        self._strip = self._line
        self._panel_height = (self._line * (self._count + 1) + self._strip) // 2 * 2
        self.height = shown + self._panel_height
        self._colours = dict(zip(foremost(timeline, len(COLOURS)), COLOURS, strict=False))
        self._reformatter = VideoReformatter()
        self._window, self._panel = -1, np.empty(0, np.uint8)

    def draw(self, frame: VideoFrame, seconds: float) -> VideoFrame:
        """The frame with the panel beneath."""
        width, height = self._size
        small = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BICUBIC)
        upright = np.rot90(cast(NDArray[np.uint8], small.to_ndarray()), self._turns)
        picture = np.concatenate([upright, self._panel_at(seconds)])
        begin, end = self._timeline.edges[[0, -1]]
        cursor = round((self.width - 3) * min(max((seconds - begin) / max(end - begin, 1e-9), 0.0), 1.0))
        picture[-self._strip :, cursor : cursor + 3] = 255
        drawn = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        return self._reformatter.reformat(
            drawn, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )

    def _panel_at(self, seconds: float) -> NDArray[np.uint8]:
        window = int(self._timeline.windows_at(np.array([seconds]))[0])
        if window != self._window:
            self._window, self._panel = window, self._draw_panel(window)
        return self._panel

    def _draw_panel(self, window: int) -> NDArray[np.uint8]:
        panel = Image.new("RGB", (self.width, self._panel_height), _BACKGROUND)
        draw = ImageDraw.Draw(panel)
        line, margin = self._line, self._line // 2
        font = ImageFont.load_default(size=line * 0.72)
        for rank, one in enumerate(self._timeline.top(self._timeline.probabilities[window], self._count)):
            top, colour = margin + rank * line, self._colours.get(one["class"], OTHER)
            percent = f"{100 * one['probability']:.0f} %"
            right = self.width - margin
            bar = right - 4 * line, right - 2.5 * line
            draw.rectangle((bar[0], top + line // 4, bar[1], top + line * 3 // 4), fill=_TRACK)
            filled = bar[0] + (bar[1] - bar[0]) * one["probability"]
            draw.rectangle((bar[0], top + line // 4, filled, top + line * 3 // 4), fill=colour)
            draw.text((right, top + line // 2), percent, fill=_INK, font=font, anchor="rm")
            name = _shortened(printable(one["name"]), font, bar[0] - 2 * margin)
            draw.text((margin, top + line // 2), name, fill=_INK, font=font, anchor="lm")
        panel.paste(self._strip_of_time(), (0, self._panel_height - self._strip))
        return np.asarray(panel)

    def _strip_of_time(self) -> Image.Image:
        """The most probable class of each moment as its colour, left to right."""
        moments = np.linspace(self._timeline.edges[0], self._timeline.edges[-1], self.width, endpoint=False)
        best = self._timeline.probabilities.argmax(axis=1)[self._timeline.windows_at(moments)]
        row = Image.new("RGB", (self.width, 1))
        draw = ImageDraw.Draw(row)
        for x, number in enumerate(best.tolist()):
            draw.point((x, 0), fill=self._colours.get(number, OTHER))
        return row.resize((self.width, self._strip))


def _shortened(name: str, font: Any, width: float) -> str:
    """As much of a name as fits."""
    if font.getlength(name) <= width:
        return name
    while name and font.getlength(f"{name}...") > width:
        name = name[:-1]
    return f"{name}..."


class _Sound:
    """The sound of the video, copied packet by packet beside the pictures."""

    def __init__(self, opened: OpenStream, output: OutputContainer, stack: ExitStack) -> None:
        self.is_copied = False
        self._packets: Iterator[tuple[float, Packet[AudioStream]]] = iter(())
        self._waiting: tuple[float, Packet[AudioStream]] | None = None
        self._output = output
        container = stack.enter_context(open_container(opened.source))
        # of several programs, the sound of the one that is shown
        self._stream = container.streams.best("audio", container.streams[opened.stream.index])
        if not isinstance(self._stream, AudioStream) or self._stream.codec_context.codec.canonical_name not in _SOUNDS:
            self._stream = None
            return
        begin = (opened.stream.start_time or 0) * (opened.time_base or 0)
        self._packets = self._timed(container, self._stream, Fraction(begin))

    def start(self) -> None:
        """Adds the stream, after that of the pictures."""
        if self._stream is not None:
            self._copy = self._output.add_stream_from_template(self._stream)
            self._waiting = next(self._packets, None)

    def copy_until(self, seconds: float) -> None:
        """Copies what begins before then."""
        while self._waiting is not None and self._waiting[0] < seconds:
            packet = self._waiting[1]
            packet.stream = self._copy
            self._output.mux(packet)
            self.is_copied = True
            self._waiting = next(self._packets, None)

    @staticmethod
    def _timed(container: Any, stream: AudioStream, begin: Fraction) -> Iterator[tuple[float, Packet[AudioStream]]]:
        """Packets from the first picture on, their times counted from there."""
        base = as_fraction(stream.time_base) or Fraction(1, stream.rate)
        shift = round(begin / base)
        for packet in container.demux(stream):
            # codecs take a packet or two to swing in, which a player leaves out
            if packet.pts is not None and packet.dts is not None and packet.dts + 2 * (packet.duration or 0) > shift:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                yield float(packet.pts * base), packet
