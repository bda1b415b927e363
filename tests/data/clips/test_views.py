import importlib.util
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch

from mvit_video.data import VideoDataset, VideoTable, dataset, open_video
from mvit_video.data.clips.transforms import Augment, Normalize
from mvit_video.data.clips.views import DenseViews, RandomView, SamplerViews, UniformViews, Views
from mvit_video.data.sampling import timed_clip
from mvit_video.types import ClipSpec, ConfigError, ViewSpec
from tests.fixtures.data import Barcodes, OddVideos
from tests.fixtures.places import ROOT

CLIP = ClipSpec(num_frames=4, sampling_rate=3)
SEGMENTS = ClipSpec(num_frames=4, sampling="segments")
BYTES = Normalize(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
STILL = Augment(scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0)
UNEVEN = np.cumsum([0.0, *([0.02, 0.035, 0.06, 0.033] * 24)])


class NumberedFrames:
    """An open video whose pixels are the numbers of their frames."""

    fps = 30.0
    height = width = 16

    def __init__(self, num_frames: int = 97, timestamps: np.ndarray | None = None) -> None:
        self.num_frames = num_frames
        self.timestamps = np.arange(num_frames) / self.fps if timestamps is None else timestamps
        self.duration_seconds = self.timestamps[-1] + 1 / self.fps

    def get_frames(self, indices: Sequence[int]) -> torch.Tensor:
        assert 0 <= min(indices) <= max(indices) < self.num_frames
        return torch.tensor(np.asarray(indices), dtype=torch.uint8)[:, None, None, None].expand(-1, 16, 16, 3)


def frame_numbers(views: Views, reader: Any = None, seed: int = 0) -> list[list[int]]:
    """Frames of each view."""
    clip = views(NumberedFrames() if reader is None else reader, np.random.default_rng(seed)).clip
    return clip[:, 0, :, 0, 0].round().int().tolist()


RULES: dict[str, Views] = {
    "random": RandomView(CLIP, 16, Augment(repeats=3)),
    "random_segments": RandomView(SEGMENTS, 16, Augment(repeats=2)),
    "uniform": UniformViews(CLIP, 16, ViewSpec(5, 3)),
    "uniform_segments": UniformViews(SEGMENTS, 16, ViewSpec(1, 3)),
    "dense": DenseViews(CLIP, 16, stride_seconds=0.1, num_crops=3),
}
SAMPLER_RULES: dict[str, Callable[[Any], Views]] = {
    "constant_clips": lambda made: SamplerViews(
        made.ConstantClipsPerVideoSampler(0.5, 4, augs_per_clip=2), 4, 16, num_crops=3
    ),
    "random_multi": lambda made: SamplerViews(made.RandomMultiClipSampler(0.5, 3), 4, 16, Augment(repeats=2)),
}
NUM_VIEWS = {
    "random": 3, "random_segments": 2, "uniform": 15, "uniform_segments": 3, "dense": 3 * 13, "constant_clips": 24,
    "random_multi": 6,
}  # fmt: skip


@pytest.mark.parametrize("rule", NUM_VIEWS)
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
    views = RULES.get(rule) or SAMPLER_RULES[rule](pytest.importorskip("pytorchvideo.data.clip_sampling"))
    item = VideoDataset(table, views, backend=backend)[0]
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


@pytest.fixture(scope="module")
def samplers() -> Any:
    """pytorchvideo's module of clip samplers."""
    return pytest.importorskip("pytorchvideo.data.clip_sampling")


@pytest.fixture(scope="module")
def subsample() -> Callable[[torch.Tensor, int, int], torch.Tensor]:
    """pytorchvideo's own, loaded past its package, which does not import with this torchvision."""
    package = Path(pytest.importorskip("pytorchvideo").__file__ or "").parent
    path = package / "transforms" / "functional.py"
    spec = importlib.util.spec_from_file_location("pytorchvideo_functional", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.uniform_temporal_subsample


SAMPLERS: dict[str, Callable[[Any], Any]] = {
    "uniform": lambda made: made.UniformClipSampler(0.71),
    "uniform_stride": lambda made: made.UniformClipSampler(0.71, stride=0.31, backpad_last=True),
    "constant": lambda made: made.ConstantClipsPerVideoSampler(0.93, 5),
    "constant_augmented": lambda made: made.ConstantClipsPerVideoSampler(0.93, 3, augs_per_clip=2),
    "random": lambda made: made.RandomClipSampler(1.1),
    "random_multi": lambda made: made.RandomMultiClipSampler(0.5, 3),
    "longer_than_the_video": lambda made: made.UniformClipSampler(60.0),
}


def clips_of_pytorchvideo(sampler: Any, duration: float) -> list[tuple[float, float]]:
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
    name: str, timestamps: np.ndarray | None, samplers: Any, subsample: Callable[..., torch.Tensor]
) -> None:
    reader = NumberedFrames(timestamps=timestamps)
    random.seed(int(np.random.default_rng(3).integers(2**63)))
    expected = []
    for start, end in clips_of_pytorchvideo(SAMPLERS[name](samplers), reader.duration_seconds):
        inside = [i for i, time in enumerate(reader.timestamps) if start <= time < end]
        expected.append(subsample(torch.tensor(inside), 8, 0).tolist())
    views = SamplerViews(SAMPLERS[name](samplers), 8, 16, STILL, normalize=BYTES)
    assert frame_numbers(views, reader, seed=3) == expected
    assert frame_numbers(views, reader, seed=3) == expected


@pytest.mark.parametrize("name", ["closed_gop", "variable_rate"])
def test_a_time_span_has_the_frames_that_pytorchvideo_decodes(
    name: str, odd_videos: OddVideos, barcodes: Barcodes,
    subsample: Callable[..., torch.Tensor],
) -> None:  # fmt: skip
    encoded_video = pytest.importorskip("pytorchvideo.data.encoded_video")
    video = encoded_video.EncodedVideo.from_path(str(odd_videos(name)), decode_audio=False)
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


def test_chance_in_a_sampler_comes_from_the_generator_alone(samplers: Any) -> None:
    views = SamplerViews(samplers.RandomMultiClipSampler(0.5, 3), 4, 16, STILL, normalize=BYTES)
    random.seed(1)
    state = random.getstate()
    first = frame_numbers(views, seed=5)
    assert random.getstate() == state
    random.seed(2)
    assert frame_numbers(views, seed=5) == first != frame_numbers(views, seed=6)


def test_a_sampler_left_in_the_middle_of_a_video_starts_over(samplers: Any) -> None:
    sampler = samplers.ConstantClipsPerVideoSampler(0.5, 4)
    expected = frame_numbers(SamplerViews(sampler, 4, 16, normalize=BYTES))
    sampler(0.0, 3.0, {})
    assert frame_numbers(SamplerViews(sampler, 4, 16, normalize=BYTES)) == expected


class Halves:
    """A sampler that is none of pytorchvideo's."""

    def reset(self) -> None: ...

    def __call__(self, last_end: float, duration: float, annotation: dict) -> Any:
        return last_end, last_end + duration / 2, 0, 0, last_end > 0


def test_any_object_with_the_call_is_a_sampler() -> None:
    clips = frame_numbers(SamplerViews(Halves(), 3, 16, normalize=BYTES), NumberedFrames(60))
    assert clips == [[0, 14, 29], [30, 44, 59]]


@pytest.mark.parametrize("rule", [DenseViews, UniformViews, SamplerViews])
@pytest.mark.parametrize(("num_crops", "crop_size", "short_side"), [(1, 224, 256), (3, 224, 224), (1, 312, 356)])
def test_short_side_follows_the_published_rule(rule: Any, num_crops: int, crop_size: int, short_side: int) -> None:
    views: Views = {
        DenseViews: lambda: DenseViews(CLIP, crop_size, 1.0, num_crops),
        UniformViews: lambda: UniformViews(CLIP, crop_size, ViewSpec(1, num_crops)),
        SamplerViews: lambda: SamplerViews(Halves(), 4, crop_size, num_crops=num_crops),
    }[rule]()
    assert views.short_side == short_side


def test_a_short_side_can_be_given() -> None:
    assert UniformViews(CLIP, 224, ViewSpec(short_side=400)).short_side == 400
    assert RandomView(CLIP, 224).short_side == 224


def test_the_example_in_the_docs_runs(barcode_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pytorchvideo")
    (tmp_path / "val.csv").write_text(f"path,label\n{barcode_video},0\n")
    monkeypatch.chdir(tmp_path)
    source = (ROOT / "docs" / "data.md").read_text()
    first, second = source.split("```python\n")[1].split("```")[0].split("\n\nviews = ")
    shown: dict[str, Any] = {}
    exec(first, shown)
    assert "# item.clip: (30, 3, 16, 224, 224)" in first
    assert shown["item"].clip.shape == (30, 3, 16, 224, 224)
    exec(f"views = {second}", shown)
    assert shown["item"].clip.shape == (1, 3, 16, 224, 224)


def test_the_loader_in_the_docs_runs(barcode_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "val.csv").write_text(f"path,label\n{barcode_video},0\n{barcode_video},1\n")
    monkeypatch.chdir(tmp_path)
    docs = (ROOT / "docs" / "data.md").read_text()
    source = next(block for block in docs.split("```python\n") if "DataLoader" in block).split("```")[0]
    shown: dict[str, Any] = {}
    exec(source, shown)
    batch = shown["batch"]
    assert "# (2, 3, 16, 224, 224), (2,), and (2,)" in source
    assert batch.clip.shape == (2, 3, 16, 224, 224)
    assert (batch.label.tolist(), batch.video.tolist()) == ([0, 1], [0, 1])
