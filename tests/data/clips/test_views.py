import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from mvit_video.data import VideoDataset, VideoTable, dataset, open_video
from mvit_video.data.clips.transforms import Augment, Normalize
from mvit_video.data.clips.views import DenseViews, RandomView, SamplerViews, UniformViews, Views
from mvit_video.types import ClipSpec, ConfigError, ViewSpec
from tests.fixtures.numbered_frames import NumberedFrames, frame_numbers

CLIP = ClipSpec(num_frames=4, sampling_rate=3)
SEGMENTS = ClipSpec(num_frames=4, sampling="segments")
BYTES = Normalize(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
STILL = Augment(scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0)


class EvenClips:
    """Sampler of half a second each, evenly spaced."""

    def __init__(self, num_clips: int) -> None:
        self.num_clips, self.num_done = num_clips, 0

    def reset(self) -> None:
        self.num_done = 0

    def __call__(self, last_end: float, duration: float, annotation: dict) -> tuple[float, float, int, int, bool]:
        start = duration * self.num_done / (self.num_clips + 1)
        self.num_done += 1
        return start, start + 0.5, 0, 0, self.num_done == self.num_clips


RULES: dict[str, Views] = {
    "random": RandomView(CLIP, 16, Augment(repeats=3)),
    "random_segments": RandomView(SEGMENTS, 16, Augment(repeats=2)),
    "uniform": UniformViews(CLIP, 16, ViewSpec(5, 3)),
    "uniform_segments": UniformViews(SEGMENTS, 16, ViewSpec(1, 3)),
    "dense": DenseViews(CLIP, 16, stride_seconds=0.1, num_crops=3),
    "sampler": SamplerViews(EvenClips(8), 4, 16, num_crops=3),
    "sampler_training": SamplerViews(EvenClips(3), 4, 16, Augment(repeats=2)),
}
NUM_VIEWS = {
    "random": 3, "random_segments": 2, "uniform": 15, "uniform_segments": 3, "dense": 3 * 13, "sampler": 24,
    "sampler_training": 6,
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_all_views_take_one_open_and_one_pass(
    rule: str, backend: Any, barcode_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    passes: list[list[int]] = []

    def counting_open(*args: Any, **options: Any) -> Any:
        reader = open_video(*args, **options)
        read = reader.get_frames
        reader.get_frames = lambda indices: (passes.append(list(indices)), read(indices))[1]
        opened.append(reader)
        return reader

    monkeypatch.setattr(dataset, "open_video", counting_open)
    table = VideoTable(pa.array([barcode_video.name]), np.array([0]), None, barcode_video.parent)
    item = VideoDataset(table, RULES[rule], backend=backend)[0]
    assert item.clip.shape == (NUM_VIEWS[rule], 3, 4, 16, 16)
    assert len(opened) == len(passes) == 1
    assert passes[0] == sorted(set(passes[0]))


def test_segments_in_training_are_random_and_at_test_the_middle() -> None:
    drawn = [frame_numbers(RandomView(SEGMENTS, 16, STILL, BYTES), seed=seed)[0] for seed in range(40)]
    for numbers in drawn:
        assert all(24 * i <= number <= 24 * (i + 1) for i, number in enumerate(numbers))
    assert len({tuple(numbers) for numbers in drawn}) == 40
    views = UniformViews(SEGMENTS, 16, ViewSpec(1, 3), BYTES)
    assert frame_numbers(views) == [[12, 36, 60, 84]] * 3
    assert frame_numbers(views, NumberedFrames(2)) == [[0, 0, 0, 1]] * 3


def test_segments_make_one_clip() -> None:
    with pytest.raises(ConfigError, match=r"views\.num_clips=5.*segments.*set views\.num_clips to 1"):
        UniformViews(SEGMENTS, 16, ViewSpec(5))


@pytest.mark.parametrize(
    ("sampling", "protocol", "enough"),
    [("rate", "slowfast", 12), ("rate", "torchvision", 12), ("rate", "pytorchvideo", 12), ("segments", "slowfast", 4)],
)
def test_a_video_with_less_than_one_clip_is_too_short(sampling: Any, protocol: Any, enough: int) -> None:
    views = UniformViews(replace(CLIP, sampling=sampling), 16, ViewSpec(1, protocol=protocol))
    for num_frames in (enough - 1, enough):
        made = views(cast(Any, NumberedFrames(num_frames)), np.random.default_rng(0))
        assert made.too_short == (num_frames < enough)


def test_dense_views_reach_both_ends() -> None:
    clips = frame_numbers(DenseViews(CLIP, 16, stride_seconds=1.0, normalize=BYTES))
    assert [clip[0] for clip in clips] == [0, 30, 60, 85]
    assert clips[-1][-1] == 96


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"class_path": "no_such_package.Sampler"}, r"no_such_package\.Sampler cannot be made \(No module named"),
        ({"class_path": "Sampler"}, r"Sampler cannot be made \(Empty module name"),
        ({"class_path": "pytorchvideo.data.clip_sampling.Sampler"}, r"cannot be made \(.*no attribute 'Sampler'"),
        (
            {"class_path": "pytorchvideo.data.clip_sampling.RandomClipSampler", "init_args": {"clips": 2}},
            r"RandomClipSampler cannot be made \(.*unexpected keyword argument 'clips'",
        ),
        ({"class_path": "collections.Counter"}, r"collections\.Counter is not a clip sampler such as"),
        ({"class": "RandomClipSampler"}, r"keys class_path and perhaps init_args, got \['class'\]"),
        ("random", r"one of rate, segments or \{class_path: \.\.\., init_args: \.\.\.\}, got 'random'"),
    ],
)
def test_a_sampler_that_cannot_be_made_is_refused(spec: Any, message: str) -> None:
    if "pytorchvideo" in str(spec):
        pytest.importorskip("pytorchvideo", reason="pytorchvideo is not installed")
    with pytest.raises(ConfigError, match=r"clip\.sampling.*" + message):
        RandomView(replace(CLIP, sampling=spec), 16)


def test_pytorchvideo_is_imported_only_when_a_config_names_it() -> None:
    code = "import sys, mvit_video.data.clips.views as views; print('pytorchvideo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_any_object_with_the_call_is_a_sampler() -> None:
    class Halves:
        def reset(self) -> None: ...

        def __call__(self, last_end: float, duration: float, annotation: dict) -> tuple[Any, ...]:
            return last_end, last_end + duration / 2, 0, 0, last_end > 0

    clips = frame_numbers(SamplerViews(Halves(), 3, 16, normalize=BYTES), NumberedFrames(60))
    assert clips == [[0, 14, 29], [30, 44, 59]]


@pytest.mark.parametrize("rule", [DenseViews, UniformViews, SamplerViews])
@pytest.mark.parametrize(("num_crops", "crop_size", "short_side"), [(1, 224, 256), (3, 224, 224), (1, 312, 356)])
def test_short_side_follows_the_published_rule(rule: Any, num_crops: int, crop_size: int, short_side: int) -> None:
    views: Views = {
        DenseViews: lambda: DenseViews(CLIP, crop_size, 1.0, num_crops),
        UniformViews: lambda: UniformViews(CLIP, crop_size, ViewSpec(1, num_crops)),
        SamplerViews: lambda: SamplerViews(EvenClips(1), 4, crop_size, num_crops=num_crops),
    }[rule]()
    assert views.short_side == short_side


def test_a_short_side_can_be_given() -> None:
    assert UniformViews(CLIP, 224, ViewSpec(short_side=400)).short_side == 400
    assert RandomView(CLIP, 224).short_side == 224
