"""Randomness, speed and the record of a run."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mvit_video.training import EpochLine, ProgressBar, RunRecord, StepSeed, Throughput
from mvit_video.training import callbacks as module
from tests.fixtures.training import MakeTask, MakeTinyData, MakeTrainer


def trainer_at(epoch: int = 0, rank: int = 0, **more: Any) -> Any:
    settings = {"log_every_n_steps": 2, "is_last_batch": False, "world_size": 1, "is_global_zero": rank == 0}
    return SimpleNamespace(current_epoch=epoch, global_rank=rank, **(settings | more))


def draw(seed: int, epoch: int, batch_idx: int, rank: int) -> float:
    StepSeed(seed).on_train_batch_start(trainer_at(epoch, rank), None, None, batch_idx)  # type: ignore[arg-type]
    return float(torch.rand(()))


def test_randomness_is_a_function_of_seed_epoch_batch_and_process() -> None:
    places = [(seed, epoch, batch, rank) for seed in (0, 1) for epoch in (0, 1) for batch in (0, 1) for rank in (0, 1)]
    first = [draw(*place) for place in places]
    torch.rand(100)
    assert [draw(*place) for place in reversed(places)] == first[::-1]
    assert len(set(first)) == len(places)


def test_throughput_counts_clips_of_all_processes_in_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    logged: list[float] = []
    task: Any = SimpleNamespace(log=lambda name, value, prog_bar: logged.append(value))
    callback, batch = Throughput(), SimpleNamespace(label=torch.zeros(8))
    trainer = trainer_at(world_size=2)
    callback.on_train_epoch_start(trainer, task)
    for batch_idx, seconds in enumerate([100, 1, 3, 1]):  # the first batch starts the workers: not counted
        now += seconds
        callback.on_train_batch_end(trainer, task, None, batch, batch_idx)
    callback.on_validation_end(trainer, task)
    now += 50
    for batch_idx, seconds in ((4, 1), (5, 2)):
        now += seconds
        callback.on_train_batch_end(trainer, task, None, batch, batch_idx)
    assert logged == [16 / 1, 32 / 4, 16 / 2]


def test_record_says_what_the_config_does_not(tmp_path: Path) -> None:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer = trainer_at(strategy=strategy, precision="32-true")
    RunRecord(tmp_path / "run", seed=3, checkpoint="x.ckpt").setup(trainer, None, "fit")  # type: ignore[arg-type]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["seed"], record["checkpoint"], record["processes"]) == (3, "x.ckpt", 1)
    assert (record["precision"], record["device"].partition(" ")[0]) == ("32-true", "cpu")


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_what_the_user_sees(
    make_task: MakeTask,
    make_trainer: MakeTrainer,
    tiny_data: MakeTinyData,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    bar = ProgressBar()
    trainer = make_trainer(EpochLine(tmp_path), Throughput(), bar, enable_progress_bar=True)
    task = make_task()
    trainer.fit(task, datamodule=tiny_data())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("epoch", "0."))]
    assert lines[0].startswith("0.00 M parameters, 6 batches per epoch, cpu")
    assert lines[0].endswith(f"files in {tmp_path}")
    for line, epoch in zip(lines[1:], ("epoch 1/2:", "epoch 2/2:"), strict=True):
        assert line.startswith(epoch)
        assert [word for word in line.split() if word[0].isalpha()] == [
            "epoch", "loss", "top1", "val", "loss", "top1", "clips/s"
        ]  # fmt: skip
    assert list(bar.get_metrics(trainer, task)) == ["loss", "val top1", "clips/s"]


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_a_log_file_shows_progress_within_an_epoch(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, capsys: pytest.CaptureFixture[str]
) -> None:
    make_trainer(EpochLine(every_seconds=0), max_epochs=1).fit(make_task(), datamodule=tiny_data())
    make_trainer(EpochLine(), max_epochs=1).fit(make_task(), datamodule=tiny_data())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch 1/1, batch")]
    assert [line.split(":")[0].split()[-1] for line in lines] == ["1/6", "2/6", "3/6", "4/6", "5/6"]
    assert all(0 < float(line.split("loss ")[1].split()[0]) < 3 for line in lines)


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_an_epoch_without_validation_shows_none(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(EpochLine(), max_epochs=3, check_val_every_n_epoch=2)
    trainer.fit(make_task(), datamodule=tiny_data())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert ["val loss" in line for line in lines] == [False, True, False]
