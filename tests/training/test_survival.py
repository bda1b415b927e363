"""A run that is killed, or runs out of disk: what is left of it, and how it goes on."""

import csv
import errno
import itertools
import os
import re
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mvit_video.cli import main
from mvit_video.data import VideoTable
from mvit_video.data.dataset import Decode, Failure
from mvit_video.training import (
    AtomicCheckpointIO,
    BestCheckpoint,
    DecodingRecord,
    EpochLine,
    EventLogger,
    FailureList,
    LastCheckpoint,
    MetricsLogger,
    StepTimes,
    Task,
    output,
)
from mvit_video.types import TrainingError
from tests.fixtures.processes import Start
from tests.fixtures.training import MakeTask, MakeTinyData, MakeTrainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    # Lightning calls what jsonargparse has renamed
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]

NUM_STEPS = 24  # 3 epochs of 8 batches


def newest(folder: str) -> Path:
    return max(Path(folder).rglob("last.ckpt"), key=lambda path: path.stat().st_mtime_ns)


def final(folder: str) -> dict[str, Any]:
    checkpoint = torch.load(newest(folder), weights_only=True)
    assert checkpoint["global_step"] == NUM_STEPS
    return {"net": checkpoint["state_dict"], "optimizer": checkpoint["optimizer_states"]}


def assert_same(first: Any, second: Any) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0)


# the kernel ends the process wherever it is, so much CPU time after so many checkpoints, however busy the machine
KILL = """
import signal
from pathlib import Path
from mvit_video.training.checkpoint_io import AtomicCheckpointIO

save, number = AtomicCheckpointIO.save_checkpoint, 0

def save_and_count(self, checkpoint, path, storage_options=None):
    global number
    save(self, checkpoint, path, storage_options)
    number += Path(path).name == "last.ckpt"
    if number == {writes}:
        signal.setitimer(signal.ITIMER_PROF, {seconds})

AtomicCheckpointIO.save_checkpoint = save_and_count
"""


def fit_through_kills(start: Start, words: list[str], rng: np.random.Generator, num_kills: int) -> set[int]:
    """Kills the run at random, after its first checkpoints, and goes on; returns the steps it was continued from."""
    continued: set[int] = set()
    for attempt in itertools.count():
        kill = KILL.format(writes=rng.integers(1, 4), seconds=rng.uniform(0.001, 0.1)) if attempt < num_kills else ""
        process = start(*words, *(["--ckpt_path=last"] if attempt else []), before=kill)
        process.join()
        if process.exitcode == 0:
            return continued
        assert process.exitcode == -signal.SIGPROF
        continued.add(torch.load(newest("runs"), weights_only=True)["global_step"])
    raise AssertionError


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_killed_at_random_and_continued_run_equals_one_run(start: Start, words: list[str], num_workers: int) -> None:
    words = [*words, f"--data.loading.num_workers={num_workers}"]
    whole = start(*words, "--trainer.default_root_dir=whole")
    continued = fit_through_kills(start, words, np.random.default_rng(num_workers), num_kills=3)
    whole.join()
    assert any(step % 8 for step in continued), "never killed within an epoch"
    assert_same(final("runs"), final("whole"))


@pytest.mark.slow
def test_damaged_last_checkpoint_falls_back_to_the_one_before(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    folder = Path("runs/tiny/version_0/checkpoints")
    steps = [torch.load(folder / f"{name}.ckpt", weights_only=True)["global_step"] for name in ("last", "previous")]
    assert steps == [NUM_STEPS, 21]
    whole = final("runs")
    content = bytearray((folder / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 255
    (folder / "last.ckpt").write_bytes(content)
    with pytest.warns(UserWarning, match=r"^\S*/last.ckpt is truncated or damaged: resuming from \S*/previous.ckpt"):
        assert main([*words, "--ckpt_path=last"]) == 0
    assert newest("runs").parts[-3] == "version_1"
    assert_same(final("runs"), whole)

    os.truncate(folder / "last.ckpt", 1000)
    capsys.readouterr()
    assert main([*words, f"--ckpt_path={folder}/last.ckpt"]) == 1
    assert capsys.readouterr().err == (f"error: {folder}/last.ckpt: cut off or damaged (File is not a zip file)\n")
    for path in Path("runs").rglob("*.ckpt"):
        path.write_bytes(b"")
    assert main([*words, "--ckpt_path=last"]) == 1
    assert "last.ckpt is truncated or damaged, and so are all before it" in capsys.readouterr().err


class FullDisk(Callback):
    """No file may grow beyond a few bytes from one epoch to another."""

    def __init__(self, first: int, end: int, num_bytes: int = 4096) -> None:
        self.first, self.end, self.num_bytes = first, end, num_bytes
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_train_epoch_start(self, trainer: Trainer, task: Task) -> None:
        full = self.first <= trainer.current_epoch < self.end
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.num_bytes if full else self.limits[0], self.limits[1]))

    def teardown(self, *_: Any, **__: Any) -> None:  # before pytest prints, perhaps to a file
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)

    on_exception = teardown


@pytest.fixture
def full_disk() -> Any:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield FullDisk
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class Score(Callback):
    def __init__(self, *scores: float) -> None:
        self.scores = scores

    def on_validation_end(self, trainer: Trainer, task: Task) -> None:
        trainer.callback_metrics["val/top1"] = torch.tensor(self.scores[trainer.current_epoch])


def test_full_disk_leaves_the_old_checkpoints_and_the_run_goes_on(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path, full_disk: type[FullDisk]
) -> None:
    kept: list[dict[str, int]] = []

    class Look(Callback):
        def on_train_epoch_start(self, trainer: Trainer, task: Task) -> None:
            files = tmp_path.rglob("*.ckpt")
            kept.append({path.stem: torch.load(path, weights_only=True)["epoch"] for path in files})

    trainer = make_trainer(
        full_disk(1, 3), Look(), Score(1.0, 3.0, 0.0, 2.0), BestCheckpoint(), LastCheckpoint(), max_epochs=4,
        enable_checkpointing=True,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="could not be written") as warned:
        trainer.fit(make_task(), datamodule=tiny_data())
    reason = r"could not be written \(File too large\): the previous file is kept, the run continues; free some space$"
    wanted = [f"best.ckpt of step 12 {reason}", f"last.ckpt of step 12 {reason}", f"last.ckpt of step 18 {reason}"]
    texts = [text for text in (str(warning.message) for warning in warned) if "could not" in text]
    assert all(re.search(*pair) for pair in zip(wanted, texts, strict=True)), texts
    assert kept == [{}] + 3 * [{"last": 0, "best": 0}]
    files = {path.name: torch.load(path, weights_only=True)["epoch"] for path in tmp_path.rglob("*.ckpt")}
    assert files == {"best.ckpt": 3, "last.ckpt": 3, "previous.ckpt": 0}
    assert not [path for path in tmp_path.rglob(".*")]


class Unread(Callback):
    """Says of each batch that one video could not be read, and one not as asked."""

    def on_train_batch_end(self, trainer: Trainer, task: Task, outputs: Any, batch: Any, batch_idx: int) -> None:
        batch.failures[:] = [Failure(3 * trainer.current_epoch, "on purpose")]
        batch.decodes[:] = [Decode(trainer.current_epoch, "pyav", f"reason {trainer.current_epoch}", None)]


def test_a_run_writes_what_it_can_while_the_disk_is_full(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path, full_disk: type[FullDisk],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Not one byte can be written in the second and third of four epochs; afterwards nothing of them is missing."""
    data, folder = tiny_data(), tmp_path / "tiny" / "version_0"
    paths = pa.array([f"{i:02}.mp4" for i in range(12)])
    data.tables = dict.fromkeys(("train", "val"), VideoTable(paths, np.arange(12) % 3, None, tmp_path))
    place = {"save_dir": tmp_path, "name": "tiny", "version": "version_0"}
    trainer = make_trainer(
        full_disk(1, 3, 0), Unread(), FailureList(folder), DecodingRecord(folder), EpochLine(), StepTimes(),
        max_epochs=4, logger=[MetricsLogger(**place, flush_logs_every_n_steps=1), EventLogger(**place)],
    )  # fmt: skip
    lost: list[str] = []

    def write(text: str, **_: Any) -> None:  # pytest keeps what is printed in a file
        if resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 0:
            lost.append(text)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(output, "print", write, raising=False)
    with pytest.warns(UserWarning, match="could not be written") as warned:
        trainer.fit(make_task(), datamodule=data)
    texts = {str(warning.message).removeprefix(f"{folder}/") for warning in warned}
    reason = "could not be written (File too large): training continues; free some space"
    names = ["metrics.csv", "events.out.tfevents", "failures.csv", "decoding.csv"]
    assert {f"{name} {reason}" for name in names} <= texts
    assert any(text.startswith("epoch 2/4") for text in lost)

    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows if row["train/loss"]]
    assert steps == list(range(1, 24, 2))
    assert [row["epoch"] for row in rows if row["val/loss"]] == ["0", "1", "2", "3"]
    assert (folder / "failures.csv").read_text().splitlines() == [
        "path,reason", *(f"{i:02}.mp4,on purpose" for i in (0, 3, 6, 9))
    ]  # fmt: skip
    events = EventAccumulator(str(folder)).Reload()
    assert {0, 3} <= {int(one.value) for one in events.Scalars("epoch")}
    assert not [file for file in folder.iterdir() if not file.stat().st_size]


def test_run_whose_end_cannot_be_saved_is_an_error(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, full_disk: type[FullDisk]
) -> None:
    trainer = make_trainer(full_disk(0, 9), LastCheckpoint(), max_epochs=1, enable_checkpointing=True)
    with (
        pytest.warns(UserWarning, match="there is no previous file"),
        pytest.raises(TrainingError, match=r"last.ckpt: the end of the run could not be saved \(File too large\)"),
    ):
        trainer.fit(make_task(), datamodule=tiny_data())


def test_device_that_is_full_is_told_apart_from_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io = AtomicCheckpointIO()
    path = tmp_path / "last.ckpt"
    save = torch.save

    def save_to_full_device(checkpoint: Any, file: Any) -> None:
        with open("/dev/full", "wb") as full:
            save(checkpoint, full)

    monkeypatch.setattr(torch, "save", save_to_full_device)
    with pytest.warns(UserWarning, match=r"last.ckpt of step 7 could not be written \(No space left on device\)"):
        io.save_checkpoint({"global_step": 7, "weight": torch.zeros(10**6)}, path)
    assert io.unwritten == {path: os.strerror(errno.ENOSPC)}
    monkeypatch.setattr(torch, "save", save)
    io.save_checkpoint({"global_step": 8}, path)
    assert not io.unwritten


def test_dead_worker_is_one_line(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    killer = Path("killer.py")
    killer.write_text(
        "import multiprocessing, os, signal\n"
        "from lightning.pytorch import Callback\n"
        "class Killer(Callback):\n"
        "    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):\n"
        "        if batch_idx == 1:\n"
        "            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(str(killer.parent.absolute()))
    options = ["--data.loading.num_workers=1", "--trainer.callbacks=killer.Killer", "--data.val=null"]
    assert main([*words, *options]) == 1
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("error: a loader process (pid ")
    assert "Killed" in line
