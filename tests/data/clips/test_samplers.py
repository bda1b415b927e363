"""Clips of pytorchvideo's samplers: the same as its own data set takes."""

import importlib.util
import random
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mvit_video.data import VideoDataset, VideoTable, open_video
from mvit_video.data.clips.transforms import Augment, Normalize
from mvit_video.data.clips.views import RandomView, SamplerViews
from mvit_video.data.sampling import timed_clip
from mvit_video.types import ClipSpec
from tests.fixtures.data import Barcodes, OddVideos
from tests.fixtures.numbered_frames import NumberedFrames, frame_numbers

pytorchvideo = pytest.importorskip("pytorchvideo", reason="pytorchvideo is not installed")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its strings are older than this Python
    from pytorchvideo.data import clip_sampling
    from pytorchvideo.data.clip_sampling import (
        ClipSampler,
        ConstantClipsPerVideoSampler,
        RandomClipSampler,
        RandomMultiClipSampler,
        UniformClipSampler,
    )
    from pytorchvideo.data.encoded_video import EncodedVideo

CLIP = ClipSpec(num_frames=4, sampling_rate=3)
BYTES = Normalize(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
STILL = Augment(scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0)
UNEVEN = np.cumsum([0.0, *([0.02, 0.035, 0.06, 0.033] * 24)])
SAMPLERS: dict[str, Callable[[], ClipSampler]] = {
    "uniform": lambda: UniformClipSampler(0.71),
    "uniform_stride": lambda: UniformClipSampler(0.71, stride=0.31, backpad_last=True),
    "constant": lambda: ConstantClipsPerVideoSampler(0.93, 5),
    "constant_augmented": lambda: ConstantClipsPerVideoSampler(0.93, 3, augs_per_clip=2),
    "random": lambda: RandomClipSampler(1.1),
    "random_multi": lambda: RandomMultiClipSampler(0.5, 3),
    "longer_than_the_video": lambda: UniformClipSampler(60.0),
}


@pytest.fixture(scope="module")
def subsample() -> Callable[[torch.Tensor, int, int], torch.Tensor]:
    """pytorchvideo's own, loaded past its package, which does not import with this torchvision."""
    path = Path(pytorchvideo.__file__).parent / "transforms" / "functional.py"
    spec = importlib.util.spec_from_file_location("pytorchvideo_functional", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.uniform_temporal_subsample


def clips_of_pytorchvideo(sampler: ClipSampler, duration: float) -> list[tuple[float, float]]:
    """What its own data set asks of a video."""
    clips, last, done = [], 0.0, False
    while not done:
        start, end, _, _, done = sampler(last, duration, {})
        last = end
        if isinstance(start, list):
            clips += list(zip(start, end, strict=True))
            done = done[-1]
        else:
            clips.append((start, end))
    return clips


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("timestamps", [None, UNEVEN], ids=["constant_rate", "variable_rate"])
def test_clips_are_those_of_pytorchvideos_samplers(
    name: str, timestamps: np.ndarray | None, subsample: Callable[..., torch.Tensor]
) -> None:
    reader = NumberedFrames(timestamps=timestamps)
    random.seed(int(np.random.default_rng(3).integers(2**63)))
    expected = []
    for start, end in clips_of_pytorchvideo(SAMPLERS[name](), reader.duration_seconds):
        inside = [i for i, time in enumerate(reader.timestamps) if start <= time < end]
        expected.append(subsample(torch.tensor(inside), 8, 0).tolist())
    views = SamplerViews(SAMPLERS[name](), 8, 16, STILL, normalize=BYTES)
    assert frame_numbers(views, reader, seed=3) == expected
    assert frame_numbers(views, reader, seed=3) == expected


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RandomClipSampler", {}),
        ("RandomMultiClipSampler", {"num_clips": 3}),
        ("ConstantClipsPerVideoSampler", {"clips_per_video": 4, "augs_per_clip": 2}),
        ("UniformClipSampler", {"clip_duration": 0.5, "backpad_last": True}),
    ],
)
def test_a_sampler_of_pytorchvideo_named_in_a_config(name: str, arguments: dict[str, Any], barcode_video: Path) -> None:
    spec = {"class_path": f"pytorchvideo.data.clip_sampling.{name}", "init_args": arguments}
    table = VideoTable.of_paths([barcode_video.name], barcode_video.parent)
    views = RandomView(replace(CLIP, sampling=spec), 16, replace(STILL, repeats=2))
    item = VideoDataset(table, views, seed=7)[5, 0]
    rng = np.random.default_rng([7, 5, 0])
    random.seed(int(rng.integers(2**63)))
    sampler = getattr(clip_sampling, name)(**{"clip_duration": 4 * 3 / 30, **arguments})
    with open_video(barcode_video) as reader:
        begins, theirs = reader.timestamps, clips_of_pytorchvideo(sampler, reader.duration_seconds)
    inside = [begins[(begins > float(start) - 1e-6) & (begins < float(end) - 1e-6)] for start, end in theirs]
    expected = np.repeat([[times[0], times[-1]] for times in inside], 2, axis=0)
    assert item.seconds.numpy() == pytest.approx(expected)
    assert views.clips_per_video == (None if name == "UniformClipSampler" else len(expected))
    assert not RandomView(views.clip, 16, None)(NumberedFrames(), rng).too_short  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["closed_gop", "variable_rate"])
def test_a_time_span_has_the_frames_that_pytorchvideo_decodes(
    name: str, odd_videos: OddVideos, barcodes: Barcodes,
    subsample: Callable[..., torch.Tensor],
) -> None:  # fmt: skip
    video = EncodedVideo.from_path(str(odd_videos(name)), decode_audio=False)
    with open_video(odd_videos(name)) as reader:
        for start, end in [(0.0, 0.5), (0.1, 0.8), (0.4, 0.41), (1.0, 9.0)]:
            theirs = video.get_clip(start, end)["video"]
            ours = timed_clip(reader.timestamps, start, end, 6)
            if theirs is None:
                assert len(set(ours.tolist())) == 1
                continue
            frames = subsample(theirs, 6, -3).permute(1, 2, 3, 0).to(torch.uint8)
            assert barcodes(reader.get_frames(ours)) == barcodes(frames)
    video.close()


def test_chance_in_a_sampler_comes_from_the_generator_alone() -> None:
    views = SamplerViews(RandomMultiClipSampler(0.5, 3), 4, 16, STILL, normalize=BYTES)
    random.seed(1)
    state = random.getstate()
    first = frame_numbers(views, seed=5)
    assert random.getstate() == state
    random.seed(2)
    assert frame_numbers(views, seed=5) == first != frame_numbers(views, seed=6)


def test_a_sampler_left_in_the_middle_of_a_video_begins_anew() -> None:
    sampler = ConstantClipsPerVideoSampler(0.5, 4)
    expected = frame_numbers(SamplerViews(sampler, 4, 16, normalize=BYTES))
    sampler(0.0, 3.0, {})
    assert frame_numbers(SamplerViews(sampler, 4, 16, normalize=BYTES)) == expected
