"""Labels that occur in a part of their video: a training clip has those that it meets, a test all."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from pyarrow import parquet

from mvit_video.curation.packing import PackSettings, pack_videos
from mvit_video.data import VideoDataset, VideoTable, load_annotations
from mvit_video.data.clips.transforms import Augment
from mvit_video.data.clips.views import RandomView, SamplerViews, UniformViews, Views
from mvit_video.data.dataset import collate
from mvit_video.data.sampling import is_too_short, random_clip, uniform_clips
from mvit_video.data.settings import InputSpec, LoadingSpec
from mvit_video.data.table.labels import group_labels
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import AnnotationError, ClipSpec, ViewSpec
from tests.fixtures.places import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

FPS, NUM_FRAMES = 30, 48
CLIP = ClipSpec(num_frames=4, sampling_rate=2, target_fps=FPS)  # the last frame is 7 behind the first
ACTIONS = "c002 0.00 0.40;c000 0.90 1.10;c002 1.30 2.00;c001 5.00 6.00"
TRAINING = RandomView(CLIP, 32, Augment(scale=(1.0, 1.0), randaugment=None))


@pytest.fixture
def charades(tmp_path: Path, barcode_video: Path) -> Path:
    """Annotations in Charades' form of a video with actions, and of one without."""
    for name in ("A", "B"):
        (tmp_path / f"{name}.mp4").symlink_to(barcode_video)
    (tmp_path / "list.csv").write_text(f"id,actions,length\nA,{ACTIONS},2\nB,,2\n")
    return tmp_path / "list.csv"


def labels_of_frames() -> list[set[int]]:
    """The labels of every frame, as SlowFast's list of frames gives them."""
    actions = [action.split() for action in ACTIONS.split(";")]
    return [
        {int(code[1:]) for code, start, end in actions if float(start) <= i / FPS <= float(end)}
        for i in range(NUM_FRAMES)
    ]


def classes(label: torch.Tensor) -> set[int]:
    return set(label.nonzero().flatten().tolist())


def item_label(table: VideoTable, views: Views, epoch: int = 0, row: int = 0) -> torch.Tensor:
    label = VideoDataset(table, views, num_classes=157)[epoch, row].label
    assert isinstance(label, torch.Tensor)
    return label


def test_a_training_clip_has_the_labels_of_its_frames(charades: Path) -> None:
    table, frames = load_annotations(charades), labels_of_frames()
    seen: set[frozenset[int]] = set()
    for epoch in range(24):
        clip = random_clip(NUM_FRAMES, FPS, CLIP, np.random.default_rng([0, epoch, 0]))
        expected = set().union(*frames[clip[0] : clip[-1] + 1])
        assert classes(item_label(table, TRAINING, epoch)) == expected
        seen.add(frozenset(expected))
    assert seen >= {frozenset(), frozenset({0}), frozenset({2}), frozenset({0, 2})}
    assert classes(item_label(table, TRAINING, row=1)) == set()


def test_validation_and_test_have_the_labels_of_the_video(charades: Path) -> None:
    table = load_annotations(charades)
    for views in (RandomView(CLIP, 32, None), UniformViews(CLIP, 32, ViewSpec(3, 1))):
        assert classes(item_label(table, views)) == {0, 1, 2}
    data = VideoDataModule(
        train=str(charades), val=str(charades), clip=CLIP, input=InputSpec(32), augment=Augment(repeats=2),
        loading=LoadingSpec(2, num_workers=0),
    )  # fmt: skip
    data.setup("fit")
    for batch in data.val_dataloader():
        assert [classes(label) for label in batch.label] == [{0, 1, 2}, set()]
    (batch,) = data.train_dataloader()
    of_video = batch.label[batch.video == 0]
    assert of_video.shape == (2, data.num_classes)  # both copies are of one clip
    assert torch.equal(of_video[0], of_video[1])
    assert 1 not in classes(of_video[0])


class TwoClips:
    """A sampler of the first and the last fifth of a video."""

    def __call__(self, last_clip_time: float, video_duration: float, annotation: dict) -> tuple:
        start = 0.0 if last_clip_time == 0.0 else 0.8 * video_duration
        return start, start + 0.2 * video_duration, 0, 0, start > 0

    def reset(self) -> None: ...


def test_clips_of_one_video_have_their_own_labels(charades: Path) -> None:
    table = load_annotations(charades)
    views = SamplerViews(TwoClips(), 2, 32, Augment(scale=(1.0, 1.0)))
    label = item_label(table, views)
    assert [classes(one) for one in label] == [{2}, {2}]
    dataset = VideoDataset(table.take(np.array([1, 0])), views)
    assert collate([dataset[0, 0], dataset[0, 1]]).label.shape == (4, 157)


def test_a_segment_counts_from_the_start_of_the_file(charades: Path) -> None:
    record = {"path": "A.mp4", "labels": ["jump", "run"], "label_spans": [[0, 0.4], [0.7, 0.8, 1.5, 2]]}
    (charades.parent / "a.jsonl").write_text(json.dumps({**record, "start": 0.75, "end": 1.05}))
    table = load_annotations(charades.parent / "a.jsonl")
    labels = [classes(item_label(table, TRAINING, epoch)) for epoch in range(8)]
    assert {0, 1} not in labels
    assert {1} in labels
    assert set() not in [classes(item_label(table, UniformViews(CLIP, 32)))]


def write_parquet(table: VideoTable, path: Path) -> Path:
    parquet.write_table(pa.table({"path": table.paths, **table.label_columns}), path)
    return path


def test_every_format_keeps_the_spans(charades: Path) -> None:
    table, folder = load_annotations(charades), charades.parent
    assert table.label_spans is not None
    expected = [[[0.9, 1.1], [5.0, 6.0], [0.0, 0.4, 1.3, 2.0]], []]
    assert table.label_spans.to_pylist() == expected
    rows = zip(table.paths.to_pylist(), (table.label_of(row) for row in range(2)), expected, strict=True)
    records = [{"path": path, "labels": labels, "label_spans": spans} for path, labels, spans in rows]
    (folder / "a.json").write_text(json.dumps(records, indent=1))
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    pack_videos(table, str(folder / "shards"), PackSettings(seed=None))
    sources = [write_parquet(table, folder / "a.parquet"), folder / "a.json", folder / "a.jsonl", folder / "shards"]
    for source in sources:
        read = load_annotations(source)
        assert read.label_spans is not None, source
        assert read.label_spans.to_pylist() == expected
        assert [read.label_of(row) for row in range(2)] == [[0, 1, 2], []]
        assert read.labels_between(0, 1.0, 1.0) == [0]
    (folder / "shards" / "index.parquet").unlink()
    assert load_annotations(folder / "shards").labels_between(0, 1.05, 1.3) == [0, 2]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"labels": [0], "label_spans": [[1, 2], [3, 4]]}, r"has labels \[0\] but label_spans"),
        ({"labels": [0], "label_spans": [[1]]}, r"label_spans \[1\.0\] must be starts and ends in seconds"),
        ({"labels": [0], "label_spans": [[]]}, r"label_spans \[\] must be starts and ends"),
        ({"labels": [0], "label_spans": [[3, 2]]}, r"label_spans \[3\.0, 2\.0\] must be"),
        (
            {"labels": [0], "label_spans": [3, 2]},
            r'"label_spans" must be a list of seconds for each label, got \[3, 2\]',
        ),
        ({"label": 0, "label_spans": [[3, 4]]}, "has label_spans but a single label"),
    ],
)
def test_spans_that_are_none_are_named(record: dict, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"path": "a.mp4", **record}))
    with pytest.raises(AnnotationError, match=rf"a\.jsonl:1: {reason}"):
        load_annotations(tmp_path / "a.jsonl")


def test_labels_are_grouped_by_video() -> None:
    videos, numbers = np.array([2, 0, 2, 0, 2]), np.array([5, 1, 3, 1, 5])
    spans = np.arange(10, dtype=np.float64).reshape(5, 2)
    labels, times = group_labels(videos, numbers, spans, 4)
    assert labels.to_pylist() == [[1], [], [3, 5], []]
    assert times.to_pylist() == [[[2, 3, 6, 7]], [], [[4, 5], [0, 1, 8, 9]], []]


def test_the_recipe_of_charades_has_the_frames_of_its_reference() -> None:
    """SlowFast's loader takes frames 0, 4, ..., 60 of the 24 per second that it has on disk."""
    config = yaml.safe_load((ROOT / "configs" / "mvit_b_charades.yaml").read_text())
    clip = ClipSpec(**config["data"]["clip"])
    for num_frames in (61, 62, 200, 721):
        starts = uniform_clips(num_frames, 24.0, clip, 1)[0]
        assert (starts - starts[0]).tolist() == list(range(0, 61, 4))
    assert is_too_short(60, 24.0, clip)
    assert config["model"]["optimizer"]["init_args"]["nesterov"] is True
    assert config["data"]["augment"]["repeats"] == 2
