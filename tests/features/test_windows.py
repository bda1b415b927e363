"""Windows equal those of exact arithmetic done one by one, and the clips of the pipeline where they coincide."""

import re
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mvit_video.data.sampling import uniform_clips
from mvit_video.features.windows import Length, Windows, WindowSpec, windows_of
from mvit_video.types import ClipSpec, ConfigError

RATES = [Fraction(rate) for rate in (5, 12, 24, 25, 30, 50)] + [Fraction(30000, 1001), Fraction(24000, 1001)]
lengths = st.one_of(
    st.integers(1, 80).map(lambda frames: Length(frames, True)),
    st.integers(3, 60).map(lambda tenths: Length(tenths / 10, False)),
)


class Timing(NamedTuple):
    """When the frames of a video begin, and when it ends, exactly."""

    stamps: list[Fraction]
    fps: Fraction
    end: Fraction
    is_even: bool

    def windows(self, spec: WindowSpec) -> Windows:
        return windows_of(spec, np.array(self.stamps, np.float64), float(self.fps), float(self.end))

    def begin(self, frame: int) -> Fraction:
        over = frame - len(self.stamps)
        return self.stamps[frame] if over < 0 else self.end + over / self.fps

    def shown(self, time: Fraction) -> int:
        return len(self.stamps) if time >= self.end else sum(stamp <= time for stamp in self.stamps) - 1


@st.composite
def even_timings(draw: st.DrawFn) -> Timing:
    fps, num_frames = draw(st.sampled_from(RATES)), draw(st.integers(1, 150))
    return Timing([i / fps for i in range(num_frames)], fps, num_frames / fps, True)


@st.composite
def uneven_timings(draw: st.DrawFn) -> Timing:
    steps = draw(st.lists(st.sampled_from([8, 20, 33, 60, 400]), min_size=3, max_size=80))
    stamps = [Fraction(sum(steps[:i]), 1000) for i in range(len(steps) + 1)]
    fps = (len(stamps) - 1) / stamps[-1]
    assume(any(abs(stamp - i / fps) > Fraction(2, 1000) for i, stamp in enumerate(stamps)))
    return Timing(stamps, fps, stamps[-1] + Fraction(draw(st.integers(1, 500)), 1000), False)


def exact(length: Length) -> Fraction:
    return Fraction(length.value).limit_denominator(1000)


def one_by_one(spec: WindowSpec, timing: Timing) -> list[tuple[Fraction, Fraction, Fraction]]:
    """Begin, end and time of the last clip frame of each window."""
    found, number, nothing = [], 0, Fraction(1, 10**6) / timing.fps
    while True:
        step = exact(spec.stride) * number
        if spec.stride.in_frames and step >= len(timing.stamps):
            return found
        start = timing.begin(int(step)) if spec.stride.in_frames else step
        if start >= timing.end - nothing:
            return found
        if spec.window.in_frames:
            first, length = timing.shown(start), int(spec.window.value)
            start, end, last = (timing.begin(frame) for frame in (first, first + length, first + length - 1))
        else:
            end = start + exact(spec.window)
            frame = 1 / timing.fps if timing.is_even else min(1 / timing.fps, exact(spec.window) / spec.num_frames)
            last = max(end - frame, start)
        found.append((start, end, last))
        number += 1
        if end >= timing.end - nothing:
            return found


@given(st.one_of(even_timings(), uneven_timings()), lengths, lengths, st.integers(1, 9))
def test_windows_equal_those_of_exact_arithmetic(
    timing: Timing, window: Length, stride: Length, num_frames: int
) -> None:
    spec = WindowSpec(window, stride, num_frames)
    found, expected = timing.windows(spec), one_by_one(spec, timing)
    last_frame, blur = len(timing.stamps) - 1, Fraction(1, 10**5) / timing.fps
    assert found.frames.shape == (len(expected), num_frames)
    for row, (start, end, last) in enumerate(expected):
        assert found.start_seconds[row] == pytest.approx(float(start), abs=1e-9)
        assert found.end_seconds[row] == pytest.approx(float(min(end, timing.end)), abs=1e-9)
        assert found.center_seconds[row] == pytest.approx(float(start + min(end, timing.end)) / 2, abs=1e-9)
        shown = [
            i for i in range(last_frame + 1) if timing.begin(i) < end - blur and timing.begin(i + 1) > start + blur
        ]
        assert (found.start_frame[row], found.end_frame[row]) == (shown[0], shown[-1] + 1)
        times = [start + (last - start) * Fraction(j, max(num_frames - 1, 1)) for j in range(num_frames)]
        for frame, time in zip(found.frames[row].tolist(), times, strict=True):
            # at the very moment of a change of frame, either is right
            allowed = {min(timing.shown(max(time + delta, Fraction(0))), last_frame) for delta in (-blur, blur)}
            assert frame in allowed
        fewest, most = (sum(time >= timing.end + delta for time in times) for delta in (blur, -blur))
        assert fewest <= found.num_padded[row] <= most


@given(st.one_of(even_timings(), uneven_timings()), lengths, lengths, st.integers(1, 9))
def test_windows_are_in_order_and_only_the_last_is_padded(
    timing: Timing, window: Length, stride: Length, num_frames: int
) -> None:
    found = timing.windows(WindowSpec(window, stride, num_frames))
    assert (np.diff(found.frames, axis=1) >= 0).all()
    assert (np.diff(found.frames[:, [0, -1]], axis=0) >= 0).all()
    assert found.frames.min() >= 0
    assert found.frames.max() < len(timing.stamps)
    assert not found.num_padded[:-1].any()
    if window == stride:
        assert set(range(len(timing.stamps))) <= {
            frame for start, end in zip(found.start_frame, found.end_frame, strict=True) for frame in range(start, end)
        }


@given(
    st.sampled_from(RATES),
    st.integers(1, 600),
    st.sampled_from([(16, 4), (32, 3), (64, 3), (8, 8), (1, 30)]),
    st.integers(1, 10),
    st.booleans(),
)
def test_clips_equal_those_of_the_pipeline_where_windows_stand_there(
    fps: Fraction, video_frames: int, clip: tuple[int, int], num_clips: int, rounded: bool
) -> None:
    spec = ClipSpec(*clip)
    clips = uniform_clips(video_frames, float(fps), spec, num_clips)
    step = int(clips[1, 0] - clips[0, 0]) if num_clips > 1 else video_frames
    assume(step > 0 and clips[0, 0] == 0)
    stamps = np.arange(video_frames) / float(fps)
    # as Matroska keeps them
    stamps = np.round(stamps, 3) if rounded else stamps
    windows = windows_of(WindowSpec.of_clip(spec, None, str(step)), stamps, float(fps), video_frames / float(fps))
    both = min(len(windows.frames), num_clips)
    np.testing.assert_array_equal(windows.frames[:both], clips[:both])


def test_a_short_video_repeats_its_last_frame_and_a_tail_is_kept() -> None:
    def windows(num_frames: int) -> Windows:
        return windows_of(
            WindowSpec.of_clip(ClipSpec(4, 4), None, None), np.arange(num_frames) / 30, 30, num_frames / 30
        )

    short = windows(6)
    assert short.frames.tolist() == [[0, 5, 5, 5]]
    assert short.num_padded.tolist() == [2]
    assert (short.start_frame.tolist(), short.end_frame.tolist()) == ([0], [6])
    assert short.end_seconds == pytest.approx([0.2])
    assert windows(16).num_padded.tolist() == [0]
    tail = windows(17)
    assert tail.frames.tolist() == [[0, 5, 10, 15], [16, 16, 16, 16]]
    assert tail.num_padded.tolist() == [0, 3]
    assert tail.center_seconds == pytest.approx([8 / 30, 16.5 / 30])


def test_frames_that_are_shown_for_long_fill_the_windows_of_that_time() -> None:
    stamps = np.array([0, 0.5, 1, 6, 6.5])
    windows = windows_of(WindowSpec(Length(1, False), Length(1, False), 2), stamps, 4 / 6.5, 9.0)
    assert windows.start_seconds.tolist() == list(range(9))
    assert windows.frames.tolist() == [[0, 1], *[[2, 2]] * 5, [3, 4], *[[4, 4]] * 2]
    assert not windows.num_padded.any()


@pytest.mark.parametrize(("text", "length"), [("64", (64, True)), ("2.5s", (2.5, False)), ("7s", (7, False))])
def test_lengths_count_frames_or_seconds(text: str, length: tuple[float, bool]) -> None:
    assert Length.parse(text, "window") == length
    assert str(Length.parse(text, "window")) == text


@pytest.mark.parametrize("text", ["", "0", "-4", "2.5", "1m", "s", "nan", "0s"])
def test_what_is_no_length_is_refused_by_its_argument(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^stride={re.escape(text)}: expected frames .*$"):
        Length.parse(text, "stride")
