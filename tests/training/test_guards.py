"""Numbers that are none, and videos that cannot be read: where a run ends, what it says, and what it leaves."""

import contextlib
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from mvit_video.cli import main
from mvit_video.data.dataset import ClipBatch, Failure
from mvit_video.training import StopAtFailureRate, StopAtNonFinite, Task
from mvit_video.types import TrainingError
from tests.fixtures.training import MakeTask, MakeTinyData, MakeTrainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    # Lightning calls what jsonargparse has renamed
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


class Poison(Callback):
    """A loss or a gradient that is not a number, at one batch of one epoch."""

    def __init__(self, epoch: int, batch_idx: int, what: str) -> None:
        self.at, self.what = (epoch, batch_idx), what
        self.active = False

    def on_train_batch_start(self, trainer: Trainer, task: Task, batch: Any, batch_idx: int) -> None:
        self.active = (trainer.current_epoch, batch_idx) == self.at

    def on_before_backward(self, trainer: Trainer, task: Task, loss: torch.Tensor) -> None:
        if self.active and self.what == "loss":
            loss.data.fill_(float("inf"))

    def on_after_backward(self, trainer: Trainer, task: Task) -> None:
        if self.active and self.what == "gradient":
            task.net.head.bias.grad[0] = float("nan")


def with_paths(data: Any, **attributes: Any) -> Any:
    data.tables = dict.fromkeys(("train", "val"), SimpleNamespace(path=lambda row: f"{row}.mp4"))
    for name, value in attributes.items():
        setattr(data, name, value)
    return data


@pytest.mark.parametrize(("what", "accumulate"), [("loss", 1), ("loss", 2), ("gradient", 1)])
@pytest.mark.parametrize("at", [(0, 0), (1, 0), (1, 3)])
def test_numbers_that_are_none_stop_the_run_before_they_do_harm(
    make_task: MakeTask,
    make_trainer: MakeTrainer,
    tiny_data: MakeTinyData,
    tmp_path: Path,
    what: str,
    accumulate: int,
    at: tuple[int, int],
) -> None:
    options = {"max_epochs": 2, "accumulate_grad_batches": accumulate}
    whole = make_task()
    rows: dict[tuple[int, int], list[int]] = {}

    class Look(Callback):
        def on_train_batch_start(self, trainer: Trainer, task: Task, batch: ClipBatch, batch_idx: int) -> None:
            rows[trainer.current_epoch, batch_idx] = batch.video.tolist()

    make_trainer(Look(), **options).fit(whole, datamodule=tiny_data())

    path = tmp_path / "last_good.ckpt"
    with pytest.raises(TrainingError) as stop:
        make_trainer(Poison(*at, what), StopAtNonFinite(path), **options).fit(
            make_task(), datamodule=with_paths(tiny_data())
        )
    epoch, batch_idx = at
    step = (6 * epoch + batch_idx) // accumulate
    number = "the loss is inf" if what == "loss" else "the loss is finite but its gradient is not"
    videos = ", ".join(f"{row}.mp4" for row in rows[at])
    assert str(stop.value) == (
        f"epoch {epoch + 1}, step {step + 1}: {number}; videos: {videos}; {path} holds the state before that step; "
        "look at the videos, or lower the learning rate"
    )

    continued = make_task()
    make_trainer(StopAtNonFinite(path), **options).fit(continued, datamodule=with_paths(tiny_data()), ckpt_path=path)
    torch.testing.assert_close(dict(continued.state_dict()), dict(whole.state_dict()), rtol=0, atol=0)


def test_exploding_run_says_so_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main([*words, "--model.optimizer.init_args.lr=1e30"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: epoch 1, step ")
    assert line.count(".mp4") == 2
    assert Path("runs/tiny/version_0/checkpoints/last_good.ckpt").is_file()


@pytest.mark.parametrize(
    ("split", "rate", "least", "message"),
    [
        (
            "train",
            0.24,
            100,
            "3 of 12 videos of data.train .* in epoch 1, more than data.loading.max_failure_rate=0.24; first ",
        ),
        ("train", 0.24, 2, "2 of 2 videos of data.train .*; first 0.mp4: no video; 1.mp4: no video$"),
        ("val", 0.0, 100, "3 of 12 videos of data.val"),
        ("train", 0.25, 100, None),
        ("train", 1.0, 1, None),
    ],
)
def test_too_many_unreadable_videos_stop_the_run(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, monkeypatch: pytest.MonkeyPatch,
    split: str, rate: float, least: int, message: str | None,
) -> None:  # fmt: skip
    monkeypatch.setattr(StopAtFailureRate, "MIN_VIDEOS", least)
    trainer = make_trainer(StopAtFailureRate(rate), max_epochs=1)

    def spoil(batch: ClipBatch, _: int) -> ClipBatch:
        rows = batch.video.tolist()
        broken = {0, 1, 2} if split == ("train" if trainer.training else "val") else {}
        failures = [Failure(row, "no video") for row in rows if row in broken]
        return batch._replace(failures=failures, decodes=[None] * (len(rows) - len(failures)))

    data = with_paths(tiny_data())
    monkeypatch.setattr(data, "on_before_batch_transfer", spoil)
    monkeypatch.setattr(data, "_loader", lambda shuffle, make=data._loader: make(shuffle=False))
    with pytest.raises(TrainingError, match=message) if message else contextlib.nullcontext():
        trainer.fit(make_task(), datamodule=data)


def test_unreadable_video_among_good_ones_is_named(
    words: list[str], digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (digits / "train.csv").read_text().replace("train/", f"{digits}/train/").splitlines()
    Path("broken.mp4").write_bytes(b"no video")
    Path("broken.csv").write_text("\n".join([*rows, "broken.mp4," + rows[1].split(",")[1]]))
    data = ["--data.train=broken.csv", "--data.loading.batch_size=1", "--data.loading.on_error=skip"]
    assert main([*words, *data, "--data.loading.max_failure_rate=0.05"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: 1 of 17 videos of data.train could not be read in epoch 1, more than data.loading.max_"
    )
    assert "first broken.mp4: " in line
    assert "broken.mp4" in Path("runs/tiny/version_0/failures.csv").read_text()
    assert main([*words, *data, "--data.loading.max_failure_rate=0.06", "--trainer.max_epochs=1"]) == 0


def test_the_check_before_training_does_not_judge(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, data = make_trainer(StopAtFailureRate(0.3), max_epochs=1, num_sanity_val_steps=1), tiny_data()

    def spoil(batch: ClipBatch, _: int) -> ClipBatch:  # one of two before training, of twelve after it
        rows = [] if trainer.training else batch.video.tolist()
        failures = [Failure(row, "no video") for row in rows if row == 0]
        return batch._replace(failures=failures, decodes=[None] * (len(rows) - len(failures)))

    monkeypatch.setattr(data, "on_before_batch_transfer", spoil)
    trainer.fit(make_task(), datamodule=with_paths(data))
