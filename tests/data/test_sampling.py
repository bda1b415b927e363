import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data.sampling import (
    clip_span,
    dense_clips,
    frames_within,
    order_frames,
    random_clip,
    segment_frames,
    spatial_crops,
    timed_clip,
    uniform_clips,
)
from mvit_video.types import ClipSpec, ConfigError, ViewSpec

VIDEO_FRAMES = st.integers(1, 2000)
FPS = st.sampled_from([6.0, 12.5, 23.976, 25.0, 29.97, 30.0, 60.0])
CLIPS = st.builds(ClipSpec, num_frames=st.integers(1, 64), sampling_rate=st.integers(1, 8))


def check_indices(indices: np.ndarray, shape: tuple[int, ...], video_frames: int) -> None:
    assert indices.shape == shape
    assert indices.dtype == np.int64
    assert indices.min() >= 0
    assert indices.max() < video_frames
    assert (np.diff(indices, axis=-1) >= 0).all()


def test_span_of_16x4_ends_on_the_last_frame() -> None:
    assert clip_span(16, 4) == 61
    assert clip_span(1, 7) == 1


def test_published_clip_starts_of_ten_seconds() -> None:
    assert uniform_clips(300, 30.0, ClipSpec(16, 4), 5)[:, 0].tolist() == [0, 59, 118, 177, 236]
    assert uniform_clips(300, 30.0, ClipSpec(32, 3), 5)[:, 0].tolist() == [0, 51, 102, 153, 204]
    assert uniform_clips(300, 30.0, ClipSpec(16, 4), 1)[0, 0] == 118


def test_published_offsets_of_16x4() -> None:
    clip = uniform_clips(300, 30.0, ClipSpec(16, 4), 5)[1]
    assert (clip - clip[0]).tolist() == [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]


def test_a_clip_covers_the_same_seconds_at_another_rate() -> None:
    at_30 = uniform_clips(300, 30.0, ClipSpec(16, 4), 3)
    at_60 = uniform_clips(600, 60.0, ClipSpec(16, 4), 3)
    np.testing.assert_allclose(at_60 / 60, at_30 / 30, atol=1 / 30)


def test_short_video_repeats_its_last_frame() -> None:
    assert uniform_clips(3, 30.0, ClipSpec(8, 1), 2).tolist() == [[0, 1, 2, 2, 2, 2, 2, 2]] * 2


@given(VIDEO_FRAMES, FPS, CLIPS, st.integers(0, 2**32))
def test_random_clip_law(video_frames: int, fps: float, clip: ClipSpec, seed: int) -> None:
    indices = random_clip(video_frames, fps, clip, np.random.default_rng(seed))
    check_indices(indices, (clip.num_frames,), video_frames)
    again = random_clip(video_frames, fps, clip, np.random.default_rng(seed))
    np.testing.assert_array_equal(indices, again)


def test_random_clip_reaches_every_start() -> None:
    starts = {int(random_clip(20, 30.0, ClipSpec(4, 4), np.random.default_rng(seed))[0]) for seed in range(200)}
    assert starts == {0, 1, 2, 3, 4}


@given(VIDEO_FRAMES, FPS, CLIPS, st.integers(1, 12))
def test_uniform_clips_law(video_frames: int, fps: float, clip: ClipSpec, num_clips: int) -> None:
    indices = uniform_clips(video_frames, fps, clip, num_clips)
    check_indices(indices, (num_clips, clip.num_frames), video_frames)
    if num_clips > 1:
        assert indices[0, 0] == 0
    if num_clips > 1 and clip.num_frames > 1:
        assert video_frames - 1 - indices[-1, -1] <= num_clips


@given(VIDEO_FRAMES, FPS, CLIPS, st.floats(0.2, 20))
def test_dense_clips_cover_both_ends(video_frames: int, fps: float, clip: ClipSpec, stride_seconds: float) -> None:
    indices = dense_clips(video_frames, fps, clip, stride_seconds)
    check_indices(indices, (len(indices), clip.num_frames), video_frames)
    assert indices[0, 0] == 0
    if clip.num_frames > 1:
        assert indices[-1, -1] == video_frames - 1
    assert np.diff(indices[:, 0]).max(initial=0) <= math.ceil(stride_seconds * fps)
    assert len(np.unique(indices[:, 0])) == len(indices)


def test_dense_clips_refuse_a_stride_below_one_frame() -> None:
    with pytest.raises(ValueError, match=r"stride_seconds=0\.01"):
        dense_clips(100, 30.0, ClipSpec(), 0.01)


@given(VIDEO_FRAMES, st.integers(1, 64), st.one_of(st.none(), st.integers(0, 99)))
def test_segment_frames_law(video_frames: int, num_frames: int, seed: int | None) -> None:
    rng = None if seed is None else np.random.default_rng(seed)
    check_indices(segment_frames(video_frames, num_frames, rng), (num_frames,), video_frames)


def test_segment_frames_takes_the_middle_of_each_segment() -> None:
    assert segment_frames(41, 4).tolist() == [5, 15, 25, 35]


def test_three_crops_lie_along_the_longer_edge() -> None:
    assert spatial_crops(224, 299, 224, 3).tolist() == [[0, 0], [0, 38], [0, 75]]
    assert spatial_crops(299, 224, 224, 3).tolist() == [[0, 0], [38, 0], [75, 0]]
    assert spatial_crops(256, 341, 224, 1).tolist() == [[16, 59]]


@given(st.integers(16, 400), st.integers(16, 400), st.integers(1, 400), st.sampled_from([1, 3]))
def test_crops_lie_inside_the_frame(height: int, width: int, size: int, num_crops: int) -> None:
    if size > min(height, width):
        with pytest.raises(ValueError, match=f"{size} pixels"):
            spatial_crops(height, width, size, num_crops)
        return
    crops = spatial_crops(height, width, size, num_crops)
    assert crops.shape == (num_crops, 2)
    assert (crops >= 0).all()
    assert (crops + size <= [height, width]).all()


def test_frame_orders_keep_the_frames() -> None:
    clips = uniform_clips(300, 30.0, ClipSpec(16, 4), 3)
    assert (order_frames(clips, "forward", np.random.default_rng(0)) == clips).all()
    assert (order_frames(clips, "reversed", np.random.default_rng(0)) == clips[:, ::-1]).all()
    shuffled = order_frames(clips, "shuffled", np.random.default_rng(0))
    assert (shuffled != clips).any(axis=1).all()
    assert (np.sort(shuffled) == clips).all()
    frozen = order_frames(clips, "frozen", np.random.default_rng(0))
    assert (frozen == clips[:, 8:9]).all()
    assert frozen.shape == clips.shape
    assert order_frames(clips[:, :5], "frozen", np.random.default_rng(0))[1].tolist() == [int(clips[1, 2])] * 5
    with pytest.raises(ValueError, match="backward"):
        order_frames(clips, "backward", np.random.default_rng(0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClipSpec(num_frames=0), r"clip\.num_frames must be at least 1, got 0"),
        (lambda: ClipSpec(sampling_rate=0), r"clip\.sampling_rate must be at least 1, got 0"),
        (lambda: ClipSpec(target_fps=0), r"clip\.target_fps must be above 0 and finite, got 0"),
        (lambda: ClipSpec(target_fps=float("inf")), r"clip\.target_fps must be above 0 and finite, got inf"),
        (lambda: ClipSpec(target_fps=float("nan")), r"clip\.target_fps must be above 0 and finite, got nan"),
        (lambda: ViewSpec(num_clips=0), r"views\.num_clips must be at least 1, got 0"),
        (lambda: ViewSpec(num_crops=2), r"views\.num_crops must be 1 or 3, got 2"),
        (lambda: ViewSpec(short_side=0), r"views\.short_side must be at least 1, got 0"),
    ],
)
def test_impossible_specs_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(0, 12_000), st.integers(0, 4_000),
    st.integers(1, 40),
)  # fmt: skip
def test_timed_clip_law(gaps: list[int], start: int, length: int, num_frames: int) -> None:
    """Times are thousandths of a second."""
    stamps = np.cumsum([0, *gaps])
    clip = timed_clip(stamps / 1000, start / 1000, (start + length) / 1000, num_frames)
    inside = np.flatnonzero((stamps >= start) & (stamps < start + length))
    assert clip.dtype == np.int64
    assert len(clip) == num_frames
    assert (np.diff(clip) >= 0).all()
    if len(inside):
        assert clip[0] == inside[0]
        assert num_frames == 1 or clip[-1] == inside[-1]
    else:
        assert (clip == np.flatnonzero(stamps <= start)[-1]).all()


def test_times_are_compared_as_written_not_as_rounded() -> None:
    stamps = np.arange(30) / 30
    assert stamps[9] < 0.1 + 0.2
    assert frames_within(stamps, 0.1 + 0.2, 0.7 + 0.1) == (9, 24)
    assert frames_within(stamps, 0.5, 0.5) == (15, 15)
    assert frames_within(stamps, 0.5, 0.1) == (15, 15)
    assert frames_within(stamps, 0.9, float("inf")) == (27, 30)
