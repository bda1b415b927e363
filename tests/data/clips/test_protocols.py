"""Views of other projects' protocols, against tables by hand and against what these projects compute."""

import math
import warnings
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mvit_video.data.clips.transforms import Normalize
from mvit_video.data.clips.views import UniformViews
from mvit_video.data.readers import VideoReader
from mvit_video.data.sampling import (
    constant_clips,
    frames_within,
    resampled_clips,
    spatial_crops,
    uniform_clips,
)
from mvit_video.types import ClipSpec, ConfigError, ViewProtocol, ViewSpec

CLIP = ClipSpec(16, 4)


def test_torchvision_by_hand() -> None:
    """10 s at 30 fps: 75 frames at 7.5 fps, 60 places of a clip; 0, 14.75, 29.5, 44.25 and 59 of them, rounded down."""
    clips = resampled_clips(300, 30, CLIP, 5)
    assert clips[:, 0].tolist() == [0, 56, 116, 176, 236]
    assert (np.diff(clips, axis=1) == 4).all()
    assert resampled_clips(300, 30, CLIP, 1)[:, 0].tolist() == [0]


def test_torchvision_at_25_frames_per_second_by_hand() -> None:
    """Every 10/3 frames, rounded down."""
    first = resampled_clips(250, 25, CLIP, 2)[0]
    assert first[:7].tolist() == [0, 3, 6, 10, 13, 16, 20]


def torchvision_clips(video_frames: int, fps: float, num_clips: int) -> NDArray[np.int64] | None:
    """What torchvision reads; None for a video that it leaves out."""
    utils = pytest.importorskip("torchvision.datasets.video_utils", reason="torchvision's own readers are deprecated")
    rule = pytest.importorskip("torchvision.datasets.samplers").UniformClipSampler
    frames = torch.arange(video_frames)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There aren't enough frames")
        clips, _ = utils.VideoClips.compute_clips_for_video(frames, CLIP.num_frames, 1, fps, 7.5)
    if not len(clips):
        return None
    sampler = rule.__new__(rule)
    sampler.video_clips, sampler.num_clips_per_video = SimpleNamespace(clips=[clips]), num_clips
    return clips[list(sampler)].numpy()


@given(st.integers(1, 2000), st.sampled_from([7.5, 12.0, 15.0, 23.976, 25.0, 29.97, 30.0, 60.0]), st.integers(1, 10))
def test_torchvision_as_it_computes(video_frames: int, fps: float, num_clips: int) -> None:
    clips = resampled_clips(video_frames, fps, CLIP, num_clips)
    expected = torchvision_clips(video_frames, fps, num_clips)
    if expected is not None:
        assert np.array_equal(clips, expected)
    assert clips.shape == (num_clips, 16)
    assert clips.min() >= 0
    assert clips.max() < video_frames
    assert (np.diff(clips, axis=1) >= 0).all()


@pytest.mark.parametrize("video_frames", [1, 3, 40, 63])
def test_torchvision_would_leave_short_videos_out(video_frames: int) -> None:
    assert torchvision_clips(60, 30, 5) is None
    clips = resampled_clips(video_frames, 30, CLIP, 5)
    assert (clips == clips[0]).all()
    assert clips[0].tolist() == [min(4 * i, (video_frames - 1) // 4 * 4) for i in range(16)]


def test_pytorchvideo_by_hand() -> None:
    """10 s at 30 fps leave 7.8667 s to move in, a fifth of which is 47.2 frames; 64 frames thinned out to 16."""
    clips = constant_clips(np.arange(300) / 30, 10.0, CLIP, 5)
    assert clips[:, 0].tolist() == [0, 48, 95, 142, 189]
    assert clips[0].tolist() == [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]


@given(st.integers(1, 900), st.sampled_from([12.0, 25.0, 29.97, 30.0]), st.integers(1, 10))
def test_pytorchvideo_as_its_sampler_computes(video_frames: int, fps: float, num_clips: int) -> None:
    timestamps, duration = np.arange(video_frames) / fps, video_frames / fps
    clip_sampling = pytest.importorskip("pytorchvideo.data.clip_sampling")
    sampler = clip_sampling.ConstantClipsPerVideoSampler(
        CLIP.num_frames * CLIP.sampling_rate / CLIP.target_fps, num_clips
    )
    expected = []
    for _ in range(num_clips):
        start, end, *_, is_last = sampler(0, duration, {})
        first, stop = frames_within(timestamps, float(start), float(end))
        expected.append((first + torch.linspace(0, stop - first - 1, CLIP.num_frames).long()).tolist())
    assert is_last
    assert constant_clips(timestamps, duration, CLIP, num_clips).tolist() == expected


def test_pytorchvideo_goes_by_the_time_stamps() -> None:
    """A second of 10 fps, then one frame per second: 11 frames begin in the first two seconds, 2 in the next."""
    timestamps = np.concatenate([np.arange(10) / 10, [1.0, 2.0, 3.0]])
    clips = constant_clips(timestamps, 4.0, ClipSpec(4, 10, target_fps=20.0), 2)
    assert clips.tolist() == [[0, 3, 6, 10], [10, 10, 10, 11]]


class Numbered:
    """A video of 240 frames, each as bright as its number."""

    num_frames, fps, duration_seconds, height, width = 240, 24.0, 10.0, 32, 40
    timestamps = np.arange(240) / 24

    def get_frames(self, indices: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(indices).to(torch.uint8)[:, None, None, None].expand(-1, 32, 40, 3)


@pytest.mark.parametrize(
    ("protocol", "clips"),
    [
        ("torchvision", resampled_clips(240, 24.0, CLIP, 5)),
        ("pytorchvideo", constant_clips(Numbered.timestamps, 10.0, CLIP, 5)),
        ("slowfast", uniform_clips(240, 24.0, CLIP, 5)),
    ],
)
def test_views_show_the_clips_of_their_protocol(protocol: ViewProtocol, clips: NDArray[np.int64]) -> None:
    plain = Normalize((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    views = UniformViews(CLIP, 28, ViewSpec(5, 1, protocol=protocol), plain)
    made = views(cast(VideoReader, Numbered()), np.random.default_rng(0))
    assert made.clip[:, 0, :, 0, 0].round().long().tolist() == clips.tolist()
    assert made.seconds.tolist() == (clips[:, [0, -1]] / 24).tolist()


@pytest.mark.parametrize(("length", "offset"), [(340, 58), (341, 58), (342, 59), (343, 60)])
def test_centre_of_torchvision(length: int, offset: int) -> None:
    """(length - 224) / 2, halves to the even side; SlowFast rounds them up."""
    assert spatial_crops(224, length, 224, 1, round).tolist() == [[0, offset]]
    assert spatial_crops(224, length, 224, 1).tolist() == [[0, math.ceil((length - 224) / 2)]]


@pytest.mark.parametrize(
    ("protocol", "num_crops", "short_side"),
    [
        ("slowfast", 1, 256),
        ("slowfast", 3, 224),
        ("torchvision", 1, 256),
        ("pytorchvideo", 1, 224),
        ("pytorchvideo", 3, 224),
    ],
)
def test_short_side(protocol: ViewProtocol, num_crops: int, short_side: int) -> None:
    assert UniformViews(CLIP, 224, ViewSpec(5, num_crops, protocol=protocol)).short_side == short_side
    assert UniformViews(CLIP, 224, ViewSpec(5, num_crops, 300, protocol=protocol)).short_side == 300


def test_refuses_what_a_protocol_has_not() -> None:
    with pytest.raises(ConfigError, match=r"views\.num_crops=3, but views\.protocol=torchvision has one crop"):
        UniformViews(CLIP, 224, ViewSpec(5, 3, protocol="torchvision"))
    with pytest.raises(ConfigError, match=r"clip\.sampling=segments works with .*=slowfast, not with pytorchvideo"):
        UniformViews(ClipSpec(16, sampling="segments"), 224, ViewSpec(1, 1, protocol="pytorchvideo"))
