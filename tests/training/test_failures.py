import csv
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import RunningStage

from mvit_video.data import ClipBatch, VideoTable
from mvit_video.data.dataset import Decode, Failure
from mvit_video.training import DecodingRecord, FailureList
from mvit_video.training.failures import describe_decoding
from tests.fixtures.training import MakeTask, MakeTinyData, MakeTrainer

NOT_DECORD = "its codec is hevc"
STAGES = {
    "train": ("train", RunningStage.TRAINING),
    "val": ("validation", RunningStage.VALIDATING),
    "test": ("test", RunningStage.TESTING),
}


def rows_of(path: Path) -> list[tuple[str, ...]]:
    with path.open() as file:
        return [tuple(row) for row in csv.reader(file)]


@pytest.fixture
def trainer() -> Any:
    """What the callbacks ask of a trainer."""
    spans = np.array([[np.nan, np.nan]] * 4 + [[0.0, 1.0], [5.0, 6.0]])
    paths = pa.array(["a.mp4", "b.mp4", "c.mp4", "d, e.mp4", "long.mp4", "long.mp4"])
    table = VideoTable(paths, np.zeros(6, np.int64), None, Path(), spans=spans)
    data = SimpleNamespace(tables={"train": table, "val": table, "test": table})
    return SimpleNamespace(
        datamodule=data, is_global_zero=True, state=SimpleNamespace(fn="fit", stage=RunningStage.TRAINING)
    )


def batch(*decodes: Decode, failures: tuple[Failure, ...] = ()) -> ClipBatch:
    return ClipBatch(*[torch.empty(0)] * 4, list(failures), list(decodes))


def test_failures_are_listed_by_path_and_told_when_they_grow(
    trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = FailureList(tmp_path / "run")
    task: Any = None
    failures.on_train_epoch_end(trainer, task)
    assert not (tmp_path / "run").exists()
    for _ in range(2):
        failures.on_train_batch_end(trainer, task, None, batch(failures=(Failure(3, "is empty"),)), 0)
        failures.on_validation_batch_end(trainer, task, None, batch(failures=(Failure(0, "x, y"),)), 0)
        failures.on_train_epoch_end(trainer, task)
    path = tmp_path / "run" / "failures.csv"
    assert rows_of(path) == [("path", "reason"), ("a.mp4", "x, y"), ("d, e.mp4", "is empty")]
    assert capsys.readouterr().out == f"videos failed so far: 2, listed in {path}\n"
    both = (Failure(4, "no frame before 1"), Failure(5, "no frame before 6"))
    failures.on_train_batch_end(trainer, task, None, batch(failures=both), 0)
    failures.on_train_epoch_end(trainer, task)
    assert rows_of(path)[3:] == [("long.mp4", "no frame before 1"), ("long.mp4", "no frame before 6")]
    failures.on_train_batch_end(trainer, task, None, batch(failures=(Failure(1, "is empty"),)), 0)
    trainer.world_size = 1
    failures.on_exception(trainer, task, KeyboardInterrupt())
    assert ("b.mp4", "is empty") in rows_of(path)
    assert [file.name for file in path.parent.iterdir()] == ["failures.csv"]


def run_epoch(record: DecodingRecord, trainer: Any, split: str, *batches: ClipBatch) -> None:
    task: Any = None
    name, stage = STAGES[split]
    trainer.state.stage = stage
    getattr(record, f"on_{name}_epoch_start")(trainer, task)
    for index, one in enumerate(batches):
        getattr(record, f"on_{name}_batch_end")(trainer, task, None, one, index)
    getattr(record, f"on_{name}_epoch_end")(trainer, task)


def test_libraries_are_counted_by_split_and_reason(
    trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = DecodingRecord(tmp_path)
    as_asked = [Decode(row, "decord", "as asked", None) for row in range(2)]
    handed_over = Decode(2, "pyav", NOT_DECORD, False)
    for _ in range(2):
        run_epoch(record, trainer, "val", batch(as_asked[0], Decode(3, "pyav", "it is bytes", True)))
        run_epoch(record, trainer, "train", batch(*as_asked), batch(handed_over))
    assert rows_of(tmp_path / "decoding.csv") == [
        ("split", "backend", "reason", "videos"),
        ("train", "decord", "as asked", "2"),
        ("train", "pyav", NOT_DECORD, "1"),
        ("val", "decord", "as asked", "1"),
        ("val", "pyav", "it is bytes", "1"),
    ]
    assert rows_of(tmp_path / "damaged.csv") == [("path",), ("d, e.mp4",)]
    assert capsys.readouterr().out.splitlines() == [
        f"pyav decodes 1 train videos: {NOT_DECORD}",
        "pyav decodes 1 val videos: it is bytes",
        f"listed in {tmp_path / 'decoding.csv'}, 1 damaged videos in damaged.csv",
    ]
    run_epoch(record, trainer, "train", batch(Decode(0, "pyav", "decord failed", False)))
    assert "pyav decodes 1 train videos: decord failed" in capsys.readouterr().out


def test_why_another_library_decodes_is_one_sentence_and_said_once(
    trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = DecodingRecord(tmp_path)
    reason = "not decord: decord can crash the process on damaged videos in memory"
    for _ in range(3):
        run_epoch(record, trainer, "val", batch(Decode(3, "pyav", reason, False)))
        run_epoch(record, trainer, "train", batch(Decode(0, "pyav", reason, False), Decode(1, "pyav", reason, False)))
    assert capsys.readouterr().out.splitlines() == [
        "pyav, not decord, decodes 2 train and 1 val videos: decord can crash the process on damaged videos in memory",
        f"listed in {tmp_path / 'decoding.csv'}",
    ]
    counts = {"train": Counter({("pyav", f"not decord: {i}"): 1 for i in range(9)})}
    assert describe_decoding(counts, list(counts["train"]))[-2:] == [
        "pyav, not decord, decodes 1 train videos: 4", "and 4 more reasons"
    ]  # fmt: skip


@pytest.mark.parametrize(("verb", "split"), [("validate", "val"), ("test", "test")])
def test_what_went_as_asked_is_written_but_not_told(
    trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, split: str
) -> None:
    trainer.state.fn = verb
    run_epoch(DecodingRecord(tmp_path), trainer, split, batch(Decode(0, "decord", "as asked", None)))
    assert rows_of(tmp_path / "decoding.csv")[1:] == [(split, "decord", "as asked", "1")]
    assert not (tmp_path / "damaged.csv").exists()
    assert capsys.readouterr().out == ""


def test_only_the_first_process_writes(trainer: Any, tmp_path: Path) -> None:
    trainer.is_global_zero = False
    run_epoch(DecodingRecord(tmp_path), trainer, "test", batch(Decode(0, "pyav", NOT_DECORD, True)))
    assert list(tmp_path.iterdir()) == []


def test_the_record_of_a_real_run(
    make_trainer: MakeTrainer, make_task: MakeTask, tiny_data: MakeTinyData, tmp_path: Path
) -> None:
    """The hooks come when Lightning calls them."""

    class Told(DecodingRecord):
        def _count(self, trainer: Trainer, batch: ClipBatch) -> None:
            decodes = [Decode(int(video), "pyav", "as asked", False) for video in batch.video]
            super()._count(trainer, batch._replace(decodes=decodes))

    make_trainer(Told(tmp_path)).fit(make_task(), datamodule=tiny_data())
    assert rows_of(tmp_path / "decoding.csv")[1:] == [
        ("train", "pyav", "as asked", "12"),
        ("val", "pyav", "as asked", "12"),
    ]
