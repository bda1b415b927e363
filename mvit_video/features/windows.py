"""Which frames of a video belong to which window, and when: pure arithmetic on time stamps.

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

# containers round time stamps to a millisecond or finer, each on its own
_ROUNDING_SECONDS = 1.1e-3
# the same place, computed twice, differs by less than this part of a frame
_SAME_FRAMES = 1e-6


class Length(NamedTuple):
    """A length of video, in source frames or in seconds.

    Attributes:
        value: above 0; whole where it counts frames.
        in_frames: frames rather than seconds.
    """

    value: float
    in_frames: bool

    @classmethod
    def parse(cls, text: str, option: str) -> Length:
        """`64` is 64 frames of the video, `2.5s` are seconds.

        Args:
            option: what the user called it, for the message.

        Raises:
            ConfigError: it is neither.
        """
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(s?)", text.strip())
        value = float(match[1]) if match else 0.0
        in_frames = bool(match) and not match[2]
        if value <= 0 or (in_frames and not value.is_integer()):
            raise ConfigError(f"{option} is a number of frames such as 64, or of seconds such as 2.5s; got {text!r}")
        return cls(value, in_frames)

    def __str__(self) -> str:
        return f"{self.value:g}" if self.in_frames else f"{self.value:g}s"


@dataclass(frozen=True)
class WindowSpec:
    """Windows that slide over a video.

    Attributes:
        window: length of each.
        stride: from the start of one to the start of the next.
        num_frames: frames of the clip that each becomes.
    """

    window: Length
    stride: Length
    num_frames: int

    @classmethod
    def of_clip(cls, clip: ClipSpec, window: str | None, stride: str | None) -> WindowSpec:
        """As the user says; what is not said is what a clip of the model stands for, end to end.

        Raises:
            ConfigError: a length cannot be understood.
        """
        whole = Length(clip.num_frames * clip.sampling_rate / clip.target_fps, in_frames=False)
        length = whole if window is None else Length.parse(window, "--window")
        return cls(length, length if stride is None else Length.parse(stride, "--stride"), clip.num_frames)


class Windows(NamedTuple):
    """The windows of a video, in the order of their starts.

    Attributes:
        frames: `(W, T)` index of each frame of each clip, never falling along a row, nor down the first column.
        start_seconds: `(W,)` where it begins, counted from the first frame of the video.
        end_seconds: `(W,)` where it ends; at a tail, where the video ends.
        center_seconds: `(W,)` half way between them.
        start_frame: `(W,)` first frame that is shown in it.
        end_frame: `(W,)` one behind the last frame that is shown in it.
        num_padded: `(W,)` frames of the clip that lie behind the end of the video and repeat its last frame.
    """

    frames: NDArray[np.int64]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    center_seconds: NDArray[np.float64]
    start_frame: NDArray[np.int64]
    end_frame: NDArray[np.int64]
    num_padded: NDArray[np.int32]

    def __getitem__(self, rows: slice) -> Windows:  # type: ignore[override]
        """Some of them."""
        return Windows(*(column[rows] for column in self))


def windows_of(spec: WindowSpec, timestamps: NDArray[np.float64], fps: float, duration_seconds: float) -> Windows:
    """The windows of a video."""
    raise NotImplementedError
