"""Windows of a video, their frames and times: pure arithmetic on time stamps.

Letters: V frames of the video, W windows, T frames of a clip.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mvit_video.types import ClipSpec, ConfigError

# containers round time stamps to a millisecond or finer
_ROUNDING_SECONDS = 1.1e-3
# rounding of a place, in frames
_SAME_FRAMES = 1e-6


class Length(NamedTuple):
    """Length of video in source frames (`in_frames`) or in seconds, above 0."""

    value: float
    in_frames: bool

    @classmethod
    def parse(cls, text: int | str, argument: str) -> Length:
        """Return the length that a text states: `64` is 64 frames of the video, `2.5s` are seconds.

        Args:
            argument: name of the argument, for the message.

        Raises:
            ConfigError: it is neither.
        """
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(s?)", str(text).strip())
        value = float(match[1]) if match else 0.0
        in_frames = bool(match) and not match[2]
        if value <= 0 or (in_frames and not value.is_integer()):
            raise ConfigError(f"{argument}={text}: expected frames such as 64, or seconds such as 2.5s")
        return cls(value, in_frames)

    def __str__(self) -> str:
        return f"{self.value:g}" if self.in_frames else f"{self.value:.12g}s"  # a stride adds up over hours


@dataclass(frozen=True)
class WindowSpec:
    """Rule of windows that slide over a video.

    Attributes:
        stride: from the start of a window to the start of the next.
        num_frames: frames of the clip of a window.
    """

    window: Length
    stride: Length
    num_frames: int

    @classmethod
    def of_clip(cls, clip: ClipSpec, window: int | str | None, stride: int | str | None) -> WindowSpec:
        """Return the windows that the user asks for; by default what a clip of the model covers, end to end.

        Raises:
            ConfigError: a length is neither frames nor seconds.
        """
        whole = Length(clip.num_frames * clip.sampling_rate / clip.target_fps, in_frames=False)
        length = whole if window is None else Length.parse(window, "window")
        return cls(length, length if stride is None else Length.parse(stride, "stride"), clip.num_frames)


class Windows(NamedTuple):
    """Windows of a video, in the order of their starts.

    Attributes:
        frames: `(W, T)` index of each frame of each clip, non-decreasing along a row and down the first column.
        start_seconds: `(W,)` start, counted from the first frame of the video.
        end_seconds: `(W,)` end, at most the end of the video.
        center_seconds: `(W,)` half way between them.
        start_frame: `(W,)` first frame.
        end_frame: `(W,)` last frame plus one.
        num_padded: `(W,)` frames of the clip after the end of the video, which repeat its last frame.
    """

    frames: NDArray[np.int64]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    center_seconds: NDArray[np.float64]
    start_frame: NDArray[np.int64]
    end_frame: NDArray[np.int64]
    num_padded: NDArray[np.int32]

    def part(self, rows: slice) -> Windows:
        """Return some of the windows."""
        return self._make(column[rows] for column in self)


def windows_of(spec: WindowSpec, timestamps: NDArray[np.float64], fps: float, duration_seconds: float) -> Windows:
    """Return the windows of a video: from its first frame, a stride apart, until one reaches its end.

    The T frames of a clip are the frames shown at T evenly spaced times, from the start of the window to one mean frame
    before its end. At a constant frame rate, a window that begins with a frame and is as long as a clip has the frames
    that `uniform_clips` gives a clip there. Only the last window may exceed the video: its clip repeats the last frame
    `num_padded` times.

    Args:
        timestamps: `(V,)` seconds at which each frame begins, increasing from 0.
        fps: frames per second on average.
        duration_seconds: end of the last frame.
    """
    clock = _Clock(timestamps, fps, duration_seconds)
    starts = _starts(spec.stride, clock)
    if spec.window.in_frames:
        length = int(spec.window.value)
        first = clock.frame_at(starts)
        starts, ends, last = (clock.time_of(frames) for frames in (first, first + length, first + length - 1))
    else:
        # rounded, so that the length of a clip is the number that `uniform_clips` computes
        length = max(round(spec.window.value * fps, 9), 1.0)
        ends = starts + spec.window.value
        last = ends - min(1 / fps, spec.window.value / spec.num_frames)
    reaches_end = ends > clock.end_seconds - _SAME_FRAMES / fps
    rows = slice(int(np.argmax(reaches_end)) + 1 if reaches_end.any() else None)
    starts, ends = starts[rows], np.minimum(ends[rows], clock.end_seconds)
    if clock.is_even:
        frames = _frames_of_even(starts * fps, length, spec.num_frames)
    else:
        frames = clock.frame_at(np.linspace(starts, last[rows], spec.num_frames, axis=1))
    final = clock.num_frames - 1
    return Windows(
        frames=np.minimum(frames, final),
        start_seconds=starts,
        end_seconds=ends,
        center_seconds=(starts + ends) / 2,
        start_frame=clock.frame_at(starts),
        end_frame=np.minimum(clock.frame_before(ends), final) + 1,
        num_padded=(frames > final).sum(axis=1).astype(np.int32),
    )


def _starts(stride: Length, clock: _Clock) -> NDArray[np.float64]:
    """Return the starts of windows within the video."""
    if stride.in_frames:
        return clock.time_of(np.arange(0, clock.num_frames, int(stride.value)))
    count = math.ceil((clock.end_seconds - _SAME_FRAMES / clock.fps) / stride.value)
    return np.arange(max(count, 1), dtype=np.float64) * stride.value


class _Clock:
    """Times of the frames of a video; frames after the last follow at the mean rate."""

    def __init__(self, timestamps: NDArray[np.float64], fps: float, duration_seconds: float) -> None:
        self.num_frames, self.fps = len(timestamps), fps
        nominal = np.arange(self.num_frames) / fps
        self.is_even = bool(
            (np.abs(timestamps - nominal) < min(_ROUNDING_SECONDS, 0.25 / fps)).all()
            and abs(duration_seconds - self.num_frames / fps) < 1 / fps
        )
        self.end_seconds = self.num_frames / fps if self.is_even else duration_seconds
        self._begins = np.append(nominal if self.is_even else timestamps, self.end_seconds)

    def time_of(self, frames: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the times at which frames begin."""
        return self._begins[np.minimum(frames, self.num_frames)] + np.maximum(frames - self.num_frames, 0) / self.fps

    def frame_at(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the frames that are shown at these times; the number of frames from the end on."""
        return np.searchsorted(self._begins, seconds + _SAME_FRAMES / self.fps, side="right") - 1

    def frame_before(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the last frames that begin before these times."""
        return np.searchsorted(self._begins, seconds - _SAME_FRAMES / self.fps) - 1


def _frames_of_even(starts: NDArray[np.float64], length: float, num_frames: int) -> NDArray[np.int64]:
    """Return the frames of windows at a constant frame rate, by the arithmetic of `uniform_clips`.

    Args:
        starts: in frames, with fractions.
        length: in frames, with a fraction.
    """
    nearest = np.round(starts)
    starts = np.where(np.abs(starts - nearest) < _SAME_FRAMES, nearest, starts)
    whole = np.floor(starts)
    steps = np.linspace(0, length - 1, num_frames)
    return (whole[:, None] + np.floor((starts - whole)[:, None] + steps)).astype(np.int64)
