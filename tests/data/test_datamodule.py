import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch

from mvit_video.data import ClipBatch
from mvit_video.data.datamodule import VideoDataModule
from mvit_video.data.transforms import Augment
from mvit_video.types import AnnotationError, ClipSpec, ConfigError, VideoDecodeError, ViewSpec

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # Lightning, of loaders with 0 or 1 worker
]

SMALL: dict = {"clip": ClipSpec(2, 2), "crop_size": 32, "batch_size": 2, "num_workers": 0}


@pytest.fixture
def listed(tmp_path: Path, barcode_video: Path) -> Callable[..., str]:
    """Writes an annotation file of videos with the given labels."""

    def write(*labels: object, name: str = "list.txt") -> str:
        for i in range(len(labels)):
            if not (tmp_path / f"{i}.mp4").exists():
                (tmp_path / f"{i}.mp4").symlink_to(barcode_video)
        (tmp_path / name).write_text("".join(f"{i}.mp4 {label}\n" for i, label in enumerate(labels)))
        return str(tmp_path / name)

    return write


def test_workers_change_nothing(listed: Callable[..., str]) -> None:
    source = listed(0, 1, 2, 0, 1)

    def batches(num_workers: int) -> list[list[ClipBatch]]:
        data = VideoDataModule(train=source, val=source, **SMALL | {"num_workers": num_workers, "seed": 3})
        data.setup("fit")
        loader = data.train_dataloader()
        epochs = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            epochs.append(list(loader))
        return epochs

    alone, shared = batches(0), batches(2)
    assert [len(epoch) for epoch in alone] == [2, 2]
    for one, two in zip(alone[0] + alone[1], shared[0] + shared[1], strict=True):
        for left, right in zip(one[:4], two[:4], strict=True):
            assert torch.equal(left, right)
    assert not torch.equal(alone[0][0].clip, alone[1][0].clip)


def test_loaders_of_each_stage(listed: Callable[..., str]) -> None:
    source = listed(0, 1, 2)
    data = VideoDataModule(train=source, val=source, views=ViewSpec(2, 3), **SMALL)
    data.setup("fit")
    assert [tuple(batch.clip.shape) for batch in data.train_dataloader()] == [(2, 3, 2, 32, 32)]
    validation = list(data.val_dataloader())
    assert [batch.video.tolist() for batch in validation] == [[0, 1], [2]]
    assert [batch.view.tolist() for batch in validation] == [[0, 0], [0]]
    data.setup("test")
    test = list(data.test_dataloader())
    assert [batch.video.tolist() for batch in test] == [[row] * 6 for row in range(3)]
    assert test[0].view.tolist() == list(range(6))
    assert set(data.tables) == {"train", "val", "test"}
    assert (data.num_classes, data.class_names) == (3, None)


def test_classes_are_those_of_all_annotations(listed: Callable[..., str]) -> None:
    data = VideoDataModule(train=listed(0, 1, name="a.txt"), val=listed(0, 4, name="b.txt"), **SMALL)
    data.setup("fit")
    assert data.num_classes == 5
    data = VideoDataModule(train=listed("run", "hop", name="a.txt"), val=listed("hop", "run", name="b.txt"), **SMALL)
    data.setup("test")
    assert data.class_names == ("hop", "run")
    assert data.num_classes == 2


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_a_class_that_is_not_trained_is_refused(listed: Callable[..., str], stage: str) -> None:
    val = listed("run", "hop", "sit", name="a.txt")
    data = VideoDataModule(train=listed("run", "hop", name="b.txt"), val=val, **SMALL)
    with pytest.raises(ConfigError, match=r"data\.(val|test) has the class 'sit', which data\.train lacks") as caught:
        data.setup(stage)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_a_part_of_the_classes_is_numbered_as_in_training(listed: Callable[..., str], stage: str) -> None:
    train = listed("run", "hop", "sit", name="a.txt")
    data = VideoDataModule(train=train, val=listed("sit", "hop", name="b.txt"), **SMALL)
    data.setup(stage)
    table = data.tables["test" if stage == "test" else "val"]
    assert data.class_names == table.class_names == ("hop", "run", "sit")
    assert table.labels.tolist() == [2, 0]


def test_given_class_names_number_all_splits(listed: Callable[..., str], tmp_path: Path) -> None:
    names = ["sit", "run", "hop"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    train, val = listed("run", "hop", name="a.txt"), listed("sit", "hop", name="b.txt")
    for given in (names, str(tmp_path / "names.txt")):
        data = VideoDataModule(train=train, val=val, class_names=given, **SMALL)
        data.setup("fit")
        assert data.class_names == tuple(names)
        assert [table.labels.tolist() for table in data.tables.values()] == [[1, 2], [0, 2]]
    with pytest.raises(AnnotationError, match=r"b\.txt:1: .*'sit'"):
        VideoDataModule(train=train, val=val, class_names=names[1:], **SMALL).setup("fit")


def test_training_takes_one_kind_of_label(listed: Callable[..., str]) -> None:
    data = VideoDataModule(train=listed("run", "hop", name="a.txt"), val=listed(0, 1, name="b.txt"), **SMALL)
    with pytest.raises(ConfigError, match=r"data\.train gives class names but data\.val gives class numbers"):
        data.setup("fit")


def test_a_test_set_is_no_business_of_other_splits(listed: Callable[..., str], tmp_path: Path) -> None:
    named, numbered = listed("run", "hop", name="a.txt"), listed(0, 900, name="b.txt")
    (tmp_path / "broken.txt").write_text("a.mp4\n")
    for other in (named, numbered, str(tmp_path / "broken.txt"), str(tmp_path / "missing.txt")):
        for labels in ([3, 1], [-1, -1]):
            data = VideoDataModule(train=other, val=other, test=listed(*labels, name="test.txt"), **SMALL)
            data.setup("test")
            assert data.tables["test"].labels.tolist() == labels
            assert (data.class_names, data.num_classes) == (None, max(labels) + 1)
    data = VideoDataModule(train=numbered, test=named, **SMALL)
    data.setup("test")
    assert data.class_names == ("hop", "run")


def test_missing_data_is_one_line_that_helps(listed: Callable[..., str], tmp_path: Path) -> None:
    data = VideoDataModule(**SMALL)
    with pytest.raises(
        ConfigError, match=r"data\.train is not set.*docs/data\.md.*configs/demo\.yaml needs none.*digits`"
    ) as caught:
        data.setup("fit")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"data\.test is not set"):
        data.setup("test")
    data = VideoDataModule(train="nowhere/k400.csv", **SMALL)
    with pytest.raises(ConfigError, match=r"data\.train: there is no nowhere/k400\.csv; docs/data\.md.*demo\.yaml"):
        data.setup("fit")
    for root in ("data/demo", "/my videos/data/demo"):
        data = VideoDataModule(train=f"{root}/pairs/train.csv", **SMALL)
        command = re.escape(f"`python -m mvit_video.data.digits --root {shlex.quote(root)} --labels pairs` writes it")
        with pytest.raises(ConfigError, match=rf"there is no {root}/pairs/train\.csv; {command}"):
            data.setup("fit")
    data = VideoDataModule(train=listed(0, 1), val=str(tmp_path / "val.csv"), **SMALL)
    with pytest.raises(ConfigError, match=r"data\.val: there is no .*val\.csv"):
        data.setup("fit")
    (tmp_path / "bad.txt").write_text("a.mp4\n")
    with pytest.raises(AnnotationError, match=r"bad\.txt:1"):
        VideoDataModule(train=str(tmp_path / "bad.txt"), **SMALL).setup("fit")


def test_training_needs_labels(listed: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match=r"1\.mp4 has label -1"):
        VideoDataModule(train=listed(0, -1), **SMALL).setup("fit")


def test_batches_of_a_few_videos_shrink_and_say_so(listed: Callable[..., str]) -> None:
    data = VideoDataModule(train=listed(0, 1), augment=Augment(repeats=3), **SMALL | {"batch_size": 4})
    assert data.clips_per_batch == 12
    with pytest.warns(UserWarning, match=r"data\.batch_size=4 on 1 device\(s\) is more than the 2 videos .* have 2"):
        data.setup("fit")
    assert data.clips_per_batch == 6
    assert [len(batch.label) for batch in data.train_dataloader()] == [6]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, r"data\.batch_size must be at least 1, got 0"),
        ({"test_batch_size": 0}, r"data\.test_batch_size .* got 0"),
        ({"crop_size": 0}, r"data\.crop_size .* got 0"),
        ({"num_workers": -1}, r"data\.num_workers must be at least 0, got -1"),
        ({"seed": -1}, r"data\.seed .* got -1"),
        ({"views": ViewSpec(short_side=16)}, r"data\.views\.short_side=16 is below data\.crop_size=32"),
        ({"decode_short_side": 31}, r"data\.decode_short_side=31 is below data\.crop_size=32"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VideoDataModule(**SMALL | settings)


def test_the_seed_is_that_of_the_run_unless_given(listed: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    source = listed(*range(8))
    monkeypatch.setenv("PL_SEED_WORKERS", "0")  # both are put back behind the test
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")

    def order(seed: int | None = None) -> list[int]:
        data = VideoDataModule(train=source, seed=seed, **SMALL)
        data.setup("fit")
        return [row for _, row in data.train_dataloader().sampler]  # type: ignore[misc]

    L.seed_everything(7, verbose=False)
    assert order() == order(7) != order(0)
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert order() == order(0)


class Sum(L.LightningModule):
    """Stands in for a task; keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[ClipBatch] = []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: ClipBatch, batch_idx: int) -> torch.Tensor:
        self.batches.append(batch)
        return self.weight.sum() * batch.clip.mean()

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> list[int]:
        self.batches.append(batch)
        return batch.video.tolist()

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        self.batches.append(batch)

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **options: object) -> L.Trainer:
    settings: dict = {"max_epochs": 1, "log_every_n_steps": 1, **options}
    return L.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_lightning_verbs_read_every_video_once(listed: Callable[..., str], tmp_path: Path, verb: str) -> None:
    data, task = VideoDataModule(val=listed(0, 1, 2), views=ViewSpec(2, 1), **SMALL | {"test_batch_size": 2}), Sum()
    getattr(trainer(tmp_path), verb)(task, datamodule=data, **({} if verb == "predict" else {"verbose": False}))
    assert all(isinstance(batch, ClipBatch) for batch in task.batches)
    videos = [video for batch in task.batches for video in batch.video.tolist()]
    assert videos == ([0, 1, 2] if verb == "validate" else [0, 0, 1, 1, 2, 2])


def test_training_without_validation_videos(listed: Callable[..., str], tmp_path: Path) -> None:
    task = Sum()
    trainer(tmp_path).fit(task, datamodule=VideoDataModule(train=listed(0, 1, 2), **SMALL))
    assert len(task.batches) == 1


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_bad_video_in_a_run(listed: Callable[..., str], tmp_path: Path, on_error: str) -> None:
    source = listed(0, 1, 2)
    (tmp_path / "1.mp4").unlink()
    data = VideoDataModule(test=source, on_error=on_error, **SMALL)  # type: ignore[arg-type]
    task = Sum()
    if on_error == "raise":
        with pytest.raises(VideoDecodeError, match=r"1\.mp4: no such file"):
            trainer(tmp_path).test(task, datamodule=data, verbose=False)
    else:
        trainer(tmp_path).test(task, datamodule=data, verbose=False)
        assert [failure for batch in task.batches for failure in batch.failures] == [(1, "no such file")]
        assert [len(batch.clip) for batch in task.batches] == [5, 0, 5]


def fit(folder: Path, data: VideoDataModule, ckpt_path: Path | None = None) -> Path:
    run = trainer(folder, max_epochs=1 if ckpt_path is None else 2, num_sanity_val_steps=0)
    run.fit(Sum(), datamodule=data, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    run.save_checkpoint(folder / "run.ckpt")
    return folder / "run.ckpt"


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path")  # resumed runs save nothing
def test_a_checkpoint_numbers_the_classes(listed: Callable[..., str], tmp_path: Path) -> None:
    trained = VideoDataModule(train=listed("run", "hop", "sit", name="a.txt"), **SMALL)
    checkpoint = fit(tmp_path, trained)
    assert torch.load(checkpoint)["VideoDataModule"] == {"class_names": ["hop", "run", "sit"]}

    data, task = VideoDataModule(test=listed("sit", "hop", name="b.txt"), **SMALL), Sum()
    trainer(tmp_path).test(task, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)
    assert [batch.label[0].item() for batch in task.batches] == [2, 0]
    assert data.class_names == ("hop", "run", "sit")

    foreign = VideoDataModule(train=listed("run", "hop", "nod", name="c.txt"), **SMALL)
    with pytest.raises(ConfigError, match=r"data\.train has the class 'nod', which the checkpoint lacks") as caught:
        fit(tmp_path, foreign, checkpoint)
    assert "\n" not in str(caught.value)
    other_order = VideoDataModule(train=listed("run", "hop", name="d.txt"), class_names=["hop", "sit", "run"], **SMALL)
    with pytest.raises(ConfigError, match=r"data\.class_names has 'sit' as class 1, the checkpoint 'run'"):
        fit(tmp_path, other_order, checkpoint)
    fit(tmp_path, VideoDataModule(train=listed("run", "hop", "sit", name="e.txt"), **SMALL), checkpoint)


def test_class_numbers_leave_nothing_in_a_checkpoint(listed: Callable[..., str], tmp_path: Path) -> None:
    assert "VideoDataModule" not in torch.load(fit(tmp_path, VideoDataModule(train=listed(0, 1, 2), **SMALL)))


def test_segments_are_chosen_by_one_key(listed: Callable[..., str]) -> None:
    source, clip = listed(0, 1), ClipSpec(4, 1)
    data = VideoDataModule(
        train=source, val=source, sampling="segments", views=ViewSpec(1, 3), **SMALL | {"clip": clip}
    )
    assert {data.train_view.sampling, data.val_views.sampling, data.test_views.sampling} == {"segments"}
    data.setup("fit")
    in_segments = next(iter(data.val_dataloader())).clip
    data = VideoDataModule(train=source, val=source, views=ViewSpec(1, 3), **SMALL | {"clip": clip})
    data.setup("fit")
    assert not torch.equal(in_segments, next(iter(data.val_dataloader())).clip)
    with pytest.raises(ConfigError, match=r"views\.num_clips=5.*set views\.num_clips to 1"):
        VideoDataModule(sampling="segments", **SMALL)


def test_several_labels_per_video(listed: Callable[..., str], tmp_path: Path) -> None:
    listed(0, 0, 0)
    rows = [("0.mp4", [0, 2]), ("1.mp4", []), ("2.mp4", [1])]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps({"path": p, "label": n}) + "\n" for p, n in rows))
    data = VideoDataModule(train=str(tmp_path / "many.jsonl"), val=str(tmp_path / "many.jsonl"), **SMALL)
    data.setup("fit")
    assert data.is_multilabel
    assert data.num_classes == 3
    assert data.example_of(2) == "data.train: 0.mp4"
    with pytest.raises(ValueError, match="no video has label 3"):
        data.example_of(3)
    labels = torch.cat([batch.label for batch in data.val_dataloader()])
    assert labels.dtype == torch.float32
    assert labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_decoding_is_set_by_keys(listed: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "index"
    data = VideoDataModule(
        test=listed(0, 1), decode_short_side=40, index_cache=str(folder), backend="pyav", **SMALL
    )  # fmt: skip
    data.setup("test")
    loader = data.test_dataloader()
    assert (loader.dataset.short_side, loader.dataset.backend) == (40, "pyav")
    assert [batch.decodes[0].backend for batch in loader] == ["pyav"] * 2
    loader.dataset.index_cache.flush()
    assert any(folder.iterdir())


def test_a_cache_that_came_with_the_annotations_is_taken(listed: Callable[..., str], tmp_path: Path) -> None:
    data = VideoDataModule(test=listed(0, 1), **SMALL)
    data.setup("test")
    assert data.test_dataloader().dataset.index_cache is None
    data.tables["test"] = replace(data.tables["test"], index_cache=tmp_path / "index")
    assert data.test_dataloader().dataset.index_cache.folder == tmp_path / "index"
    data.index_cache = str(tmp_path / "own")
    assert data.test_dataloader().dataset.index_cache.folder == tmp_path / "own"


def test_videos_outside_of_the_root_need_leave(listed: Callable[..., str], tmp_path: Path) -> None:
    listed(0)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.txt").write_text("../0.mp4 0\n")
    source = str(tmp_path / "lists" / "a.txt")
    with pytest.raises(AnnotationError, match=r"a\.txt:1: .*'\.\./0\.mp4'"):
        VideoDataModule(test=source, **SMALL).setup("test")
    data = VideoDataModule(test=source, allow_outside=True, **SMALL)
    data.setup("test")
    assert len(next(iter(data.test_dataloader())).decodes) == 1


def test_an_example_of_a_label_names_split_and_path(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label\na.mp4,0\nb.mp4,7\n")
    data = VideoDataModule(train=str(tmp_path / "train.csv"), batch_size=1)
    data.setup("fit")
    assert data.example_of(7) == "data.train: b.mp4"
    with pytest.raises(ValueError, match="no video has label 3"):
        data.example_of(3)
