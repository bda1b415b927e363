"""A video with its classes drawn below it."""

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
from mvit_video.data.readers.source import Source
from mvit_video.data.readers.stream import DecodeFailed, OpenStream, as_fraction, open_container, x264_options
from mvit_video.features.classification import Classification
from mvit_video.features.timeline import COLOURS, OTHER, foremost
from mvit_video.jobs import atomic_write, require_writable
from mvit_video.types import ConfigError, VideoDecodeError, printable

SUFFIXES = {"--overlay": ".mp4", "--timeline": ".png"}
_BACKGROUND, _INK, _PALE, _TRACK = "#15181c", "#f2f4f6", "#aab3bc", "#2b3036"
_TIME_BASE = Fraction(1, 90_000)
_SIDES = 360, 720  # pixels of the shorter edge: a smaller one has no room for words, a larger one takes long to encode
_BT709 = 1
# codecs that players expect in MP4
_SOUNDS = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")


class Overlay(NamedTuple):
    """A written overlay.

    Attributes:
        has_sound: whether the sound of the video is in it.
    """

    num_frames: int
    has_sound: bool


def write_overlay(
    source: Path, timeline: Classification, target: Path, *, count: int = 3, reached: Callable[[float], None]
) -> Overlay:
    """Encode a video with a panel below it: the most probable classes of the moment, the time, and a strip of all time.

    Frames keep their times, and one at a time is in memory. A frame that does not decode is skipped with a warning.
    Sound that MP4 can hold is copied.

    Args:
        target: MP4 file, written completely or not at all.
        count: classes in the panel.
        reached: called after each frame with the seconds that are done.

    Raises:
        ConfigError: the target is not an `.mp4`, is the video itself, or cannot be written.
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
    """Check the file that a drawing of a video is written to.

    Args:
        option: of the command line, one of `SUFFIXES`.

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
    """Frames of a video that decode, with their times.

    Attributes:
        opened: the video.
        lost: why the first missing frame does not decode; None while none is missing.
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
            except DecodeFailed as error:  # of one packet; others may decode
                self.lost = self.lost or str(error)
            except VideoDecodeError as error:
                self.lost = self.lost or error.reason
                return

    def _seconds(self, frame: VideoFrame, first: int | None, following: float) -> float:
        """Return the time of a frame; after a missing one it is the frame's own, or one step after the last."""
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
        image = canvas.draw(frame, seconds)
        image.pts, image.time_base = last, _TIME_BASE
        sound.copy_until(seconds)
        output.mux(encoder.encode(image))
        number += 1
        reached(seconds)
    if encoder is None:
        raise VideoDecodeError(frames.opened.source.name, frames.lost or "no frame can be decoded")
    output.mux(encoder.encode(None))
    sound.copy_until(float(last * _TIME_BASE + 1 / rate))
    if frames.lost is not None:
        warnings.warn(f"{frames.opened.source.name}: the overlay misses frames ({frames.lost})", stacklevel=3)
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
    """Drawing of frames above a panel: a row per class, the time, and the most probable class of every moment.

    Letters: W windows.
    """

    def __init__(self, first: VideoFrame, timeline: Classification, count: int) -> None:
        self._turns = round(first.rotation / 90) % 4
        self._timeline = timeline
        smallest, largest = _SIDES
        short = min(first.width, first.height)
        scale = min(max(short, smallest), largest) / short
        self._size = tuple(max(2, round(edge * scale / 2) * 2) for edge in (first.width, first.height))
        self.width, self._shown = self._size[::-1] if self._turns % 2 else self._size
        self._line = max(14, min(self.width, self._shown) // 16) // 2 * 2
        self._rows = _fixed_rows(timeline.probabilities, min(count, timeline.probabilities.shape[1]))
        self._panel_height = self._line * (self._rows.shape[1] + 3)
        self.height = self._shown + self._panel_height
        self._font = ImageFont.load_default(size=self._line * 0.72)
        self._colours = dict(zip(foremost(timeline, len(COLOURS)), COLOURS, strict=False))
        self._strip = self._strip_of_time()
        self._reformatter = VideoReformatter()
        self._window, self._panel = -1, Image.new("RGB", (self.width, self._panel_height), _BACKGROUND)

    def draw(self, frame: VideoFrame, seconds: float) -> VideoFrame:
        """Return the frame with the panel below it."""
        width, height = self._size
        small = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BICUBIC)
        upright = np.rot90(cast(NDArray[np.uint8], small.to_ndarray()), self._turns)
        image = np.concatenate([upright, self._panel_at(seconds)])
        begin, end = self._timeline.edges[[0, -1]]
        cursor = round((self.width - 3) * min(max((seconds - begin) / max(end - begin, 1e-9), 0.0), 1.0))
        image[-self._line :, cursor : cursor + 3] = 255
        drawn = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        return self._reformatter.reformat(
            drawn, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )

    def _panel_at(self, seconds: float) -> NDArray[np.uint8]:
        window = int(self._timeline.windows_at(np.array([seconds]))[0])
        if window != self._window:
            self._window, self._panel = window, self._draw_panel(window)
        panel = self._panel.copy()
        place = self._line // 2, self._panel_height - self._line * 7 // 4
        text = f"{_clock(seconds)} / {_clock(self._timeline.edges[-1])}"
        ImageDraw.Draw(panel).text(place, text, fill=_INK, font=self._font, anchor="lm")
        return np.asarray(panel)

    def _draw_panel(self, window: int) -> Image.Image:
        panel = Image.new("RGB", (self.width, self._panel_height), _BACKGROUND)
        draw = ImageDraw.Draw(panel)
        line, margin = self._line, self._line // 2
        left, right = round(0.45 * self.width), self.width - round(3.2 * line)
        probabilities = self._timeline.probabilities[window]
        for row, number in enumerate(self._rows[window].tolist()):
            middle, share = margin + row * line + line // 2, float(probabilities[number])
            ink = _INK if number == probabilities.argmax() else _PALE
            draw.rectangle((left, middle - line // 4, right, middle + line // 4), fill=_TRACK)
            if share * (right - left) >= 1:
                filled = left + (right - left) * share
                colour = self._colours.get(number, OTHER)
                draw.rectangle((left, middle - line // 4, filled, middle + line // 4), fill=colour)
            draw.text((self.width - margin, middle), f"{100 * share:.0f} %", fill=ink, font=self._font, anchor="rm")
            name = _shortened(printable(self._timeline.name(number)), self._font, left - 2 * margin)
            draw.text((margin, middle), name, fill=ink, font=self._font, anchor="lm")
        panel.paste(self._strip, (0, self._panel_height - line))
        return panel

    def _strip_of_time(self) -> Image.Image:
        """Return the colour of the most probable class of each moment, left to right."""
        moments = np.linspace(self._timeline.edges[0], self._timeline.edges[-1], self.width, endpoint=False)
        best = self._timeline.probabilities.argmax(axis=1)[self._timeline.windows_at(moments)]
        row = Image.new("RGB", (self.width, 1))
        draw = ImageDraw.Draw(row)
        for x, number in enumerate(best.tolist()):
            draw.point((x, 0), fill=self._colours.get(number, OTHER))
        return row.resize((self.width, self._line))


def _fixed_rows(probabilities: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the class in each row of the panel, `(W, count)`: the most probable ones, each in its row while shown."""
    rows = np.empty((len(probabilities), count), np.int64)
    before: list[int] = []
    for window, best in enumerate(np.argsort(-probabilities, axis=1, kind="stable")[:, :count].tolist()):
        new = iter([number for number in best if number not in before])
        rows[window] = before = [number if number in best else next(new) for number in before] or best
    return rows


def _clock(seconds: float) -> str:
    """Return a time as 0:01.5, or as 1:00:01.5 from an hour on."""
    tenths = max(0, int(10 * seconds + 0.5))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{rest // 10:02d}.{rest % 10}"


def _shortened(name: str, font: Any, width: float) -> str:
    """Return as much of a name as fits."""
    if font.getlength(name) <= width:
        return name
    while name and font.getlength(f"{name}...") > width:
        name = name[:-1]
    return f"{name}..."


class _Sound:
    """Sound of the video, copied packet by packet."""

    def __init__(self, opened: OpenStream, output: OutputContainer, stack: ExitStack) -> None:
        self.is_copied = False
        self._packets: Iterator[tuple[float, Packet[AudioStream]]] = iter(())
        self._waiting: tuple[float, Packet[AudioStream]] | None = None
        self._output = output
        container = stack.enter_context(open_container(opened.source))
        # sound of the program that is shown
        self._stream = container.streams.best("audio", container.streams[opened.stream.index])
        if not isinstance(self._stream, AudioStream) or self._stream.codec_context.codec.canonical_name not in _SOUNDS:
            self._stream = None
            return
        begin = (opened.stream.start_time or 0) * (opened.time_base or 0)
        self._packets = self._timed(container, self._stream, Fraction(begin))

    def start(self) -> None:
        """Add the stream, after that of the frames."""
        if self._stream is not None:
            self._copy = self._output.add_stream_from_template(self._stream)
            self._waiting = next(self._packets, None)

    def copy_until(self, seconds: float) -> None:
        """Copy the packets that begin before a time."""
        while self._waiting is not None and self._waiting[0] < seconds:
            packet = self._waiting[1]
            packet.stream = self._copy
            self._output.mux(packet)
            self.is_copied = True
            self._waiting = next(self._packets, None)

    @staticmethod
    def _timed(container: Any, stream: AudioStream, begin: Fraction) -> Iterator[tuple[float, Packet[AudioStream]]]:
        """Yield packets from the first frame on, with times counted from there."""
        base = as_fraction(stream.time_base) or Fraction(1, stream.rate)
        shift = round(begin / base)
        for packet in container.demux(stream):
            # the first packets only prime the codec, and players skip them
            if packet.pts is not None and packet.dts is not None and packet.dts + 2 * (packet.duration or 0) > shift:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                yield float(packet.pts * base), packet
