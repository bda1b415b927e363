"""A run that is stopped and continued ends with the very weights of one that is not."""

import math
import os
import pickle
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from mvit_video.data import VideoTable
from mvit_video.training import AtomicCheckpointIO, BestCheckpoint, FailureList, LastCheckpoint, StopBetweenSteps, Task
from mvit_video.types import CheckpointError
from tests.fixtures.training import MakeTask, MakeTinyData, MakeTrainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]


class Interrupt(Callback):
    """A signal at one hook of one batch of one epoch."""

    def __init__(self, hook: str, epoch: int, batch_idx: int | None, signum: int = signal.SIGINT) -> None:
        self.signum = signum

        def interrupt(trainer: Trainer, *args: Any) -> None:
            if trainer.current_epoch == epoch and batch_idx in (None, args[-1]):
                os.kill(os.getpid(), signum)

        setattr(self, hook, interrupt)


class Raise(Callback):
    """KeyboardInterrupt in a callback."""

    signum = 0

    def __init__(self, epoch: int, batch_idx: int) -> None:
        self.at = (epoch, batch_idx)

    def on_train_batch_end(self, trainer: Trainer, task: Task, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            raise KeyboardInterrupt


class Validations(Callback):
    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def on_validation_end(self, trainer: Trainer, task: Task) -> None:
        self.seen.append((trainer.current_epoch, float(trainer.callback_metrics["val/loss"])))


def weights(task: Task) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in task.state_dict().items()}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    "stop",
    [
        Raise(1, 1),
        Interrupt("on_train_batch_start", 0, 2),
        Interrupt("on_train_batch_end", 1, 3),
        Interrupt("on_train_batch_start", 1, 5),  # the last batch of an epoch: validation stops instead
        Interrupt("on_validation_end", 0, None),
        Interrupt("on_train_batch_end", 0, 1, signal.SIGTERM),
    ],
    ids=lambda stop: type(stop).__name__,
)
def test_stopped_and_continued_run_equals_one_run(
    make_task: MakeTask,
    make_trainer: MakeTrainer,
    tiny_data: MakeTinyData,
    tmp_path: Path,
    stop: Raise | Interrupt,
    accumulate: int,
) -> None:
    whole, validations = make_task(), Validations()
    make_trainer(validations, max_epochs=3, accumulate_grad_batches=accumulate).fit(whole, datamodule=tiny_data())

    handler = signal.getsignal(signal.SIGTERM)
    stopper, before = StopBetweenSteps(tmp_path / "last.ckpt"), Validations()
    with pytest.raises(SystemExit):
        make_trainer(stop, stopper, before, max_epochs=3, accumulate_grad_batches=accumulate).fit(
            make_task(), datamodule=tiny_data()
        )
    assert stopper.saved
    assert stopper.signum == stop.signum
    assert signal.getsignal(signal.SIGTERM) == handler

    continued, after = make_task(), Validations()
    make_trainer(after, max_epochs=3, accumulate_grad_batches=accumulate).fit(
        continued, datamodule=tiny_data(), ckpt_path=tmp_path / "last.ckpt"
    )
    assert before.seen + after.seen == validations.seen
    for name, value in weights(whole).items():
        assert torch.equal(value, continued.state_dict()[name]), name


def test_last_is_written_although_best_is_not(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path
) -> None:
    trainer = make_trainer(BestCheckpoint(), LastCheckpoint(), max_epochs=3, enable_checkpointing=True)
    trainer.fit(make_task(optimizer=partial(torch.optim.AdamW, lr=0.0)), datamodule=tiny_data())
    files = {path.name: torch.load(path, weights_only=True)["epoch"] for path in tmp_path.rglob("*.ckpt")}
    assert files == {"best.ckpt": 0, "previous.ckpt": 1, "last.ckpt": 2}


class Score(Callback):
    """A `val/top1` of each epoch that is given, not measured."""

    def __init__(self, *scores: float) -> None:
        self.scores = scores

    def on_validation_end(self, trainer: Trainer, task: Task) -> None:
        trainer.callback_metrics["val/top1"] = torch.tensor(self.scores[trainer.current_epoch])


@pytest.mark.filterwarnings("ignore:The dirpath has changed from")
@pytest.mark.parametrize(("scores", "best"), [((50.0, 20.0, 30.0, 10.0), 0), ((50.0, 20.0, 60.0, 10.0), 2)])
def test_continued_run_begins_with_the_best_of_the_run_before(
    make_task: MakeTask,
    make_trainer: MakeTrainer,
    tiny_data: MakeTinyData,
    tmp_path: Path,
    scores: tuple[float, ...],
    best: int,
) -> None:
    def fit(folder: str, epochs: int, ckpt_path: Path | None = None) -> Path:
        trainer = make_trainer(
            Score(*scores), BestCheckpoint(), LastCheckpoint(), max_epochs=epochs, enable_checkpointing=True,
            default_root_dir=tmp_path / folder,
        )  # fmt: skip
        trainer.fit(make_task(), datamodule=tiny_data(), ckpt_path=ckpt_path)
        return tmp_path / folder / "checkpoints"

    first = fit("first", 1)
    second = fit("second", 2, first / "last.ckpt")
    third = fit("third", 3, second / "last.ckpt")
    epochs = [torch.load(folder / "best.ckpt", weights_only=True)["epoch"] for folder in (first, second, third)]
    assert epochs == [0, 0, best]

    (third / "best.ckpt").unlink()
    with pytest.warns(UserWarning, match=r"third/checkpoints/best.ckpt is gone"):
        fit("fourth", 4, third / "last.ckpt")


class Poison(Callback):
    """Weights that are NaN in the validation of some epochs."""

    def __init__(self, *epochs: int) -> None:
        self.epochs = epochs

    def on_validation_start(self, trainer: Trainer, task: Task) -> None:
        if trainer.current_epoch in self.epochs:
            self.before = weights(task)
            task.net.head.weight.data[0, 0] = torch.nan  # type: ignore[union-attr, index]

    def on_validation_end(self, trainer: Trainer, task: Task) -> None:
        if trainer.current_epoch in self.epochs:
            task.load_state_dict(self.before)


@pytest.mark.parametrize(("poisoned", "best"), [((0,), [1, 2]), ((1, 2), [0]), ((0, 1, 2), [])])
def test_an_epoch_with_non_finite_scores_is_never_the_best(
    make_task: MakeTask,
    make_trainer: MakeTrainer,
    tiny_data: MakeTinyData,
    tmp_path: Path,
    poisoned: tuple[int, ...],
    best: list[int],
) -> None:
    scores: list[tuple[float, float]] = []

    class Scores(Callback):
        def on_validation_end(self, trainer: Trainer, task: Task) -> None:
            scores.append((float(trainer.callback_metrics["val/top1"]), float(trainer.callback_metrics["val/loss"])))

    trainer = make_trainer(
        Poison(*poisoned), Scores(), BestCheckpoint(), FailureList(tmp_path), max_epochs=3, enable_checkpointing=True
    )
    data = tiny_data()
    paths = pa.array([f"{i:02}.mp4" for i in range(12)])
    data.tables = dict.fromkeys(("train", "val"), VideoTable(paths, np.arange(12) % 3, None, tmp_path))
    trainer.fit(make_task(), datamodule=data)
    assert all(top1 == 0 and math.isnan(loss) for top1, loss in (scores[epoch] for epoch in poisoned))
    epochs = [torch.load(file, weights_only=True)["epoch"] for file in tmp_path.rglob("best.ckpt")]
    assert len(epochs) == min(1, len(best))
    assert set(epochs) <= set(best)
    failed = (tmp_path / "failures.csv").read_text().splitlines()
    assert failed[:2] == ["path,reason", "00.mp4,the model's output is non-finite"]
    assert len(failed) == 13


@pytest.mark.filterwarnings("ignore:The dirpath has changed from")
def test_the_lower_loss_breaks_a_tie(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path
) -> None:
    class Loss(Callback):
        def on_validation_end(self, trainer: Trainer, task: Task) -> None:
            trainer.callback_metrics["val/loss"] = torch.tensor((0.5, 0.3, 0.4)[trainer.current_epoch])

    def fit(folder: str, epochs: int, ckpt_path: Path | None = None) -> BestCheckpoint:
        best = BestCheckpoint()
        trainer = make_trainer(
            Score(60.0, 60.0, 60.0), Loss(), best, LastCheckpoint(), max_epochs=epochs, enable_checkpointing=True,
            default_root_dir=tmp_path / folder,
        )  # fmt: skip
        trainer.fit(make_task(), datamodule=tiny_data(), ckpt_path=ckpt_path)
        return best

    best = fit("a", 2)
    assert best.best_epoch == 2
    best = fit("b", 3, tmp_path / "a" / "checkpoints" / "last.ckpt")
    assert (best.best_epoch, best.best_loss) == (2, pytest.approx(0.3))
    assert torch.load(best.best_model_path, weights_only=True)["epoch"] == 1


class Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "Is a directory"),
        (b"", "the file is empty"),
        (b"no checkpoint at all", "not a checkpoint of a run; expected the last.ckpt or best.ckpt of one"),
        (500, "cut off or damaged"),
        (pickle.dumps(Code()), "cut off or damaged"),
        (
            {"state_dict": {}, "pytorch-lightning_version": "2.6", "x": Code()},
            "needs code to be read .posix.mkdir., which is never run",
        ),
        ({"embed.weight": torch.zeros(2)}, "not a checkpoint of a run; expected the last.ckpt or best.ckpt of one"),
    ],
)
def test_bad_checkpoint_is_named_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = tmp_path / "last.ckpt"
    if content is None:
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, int):
        torch.save({"state_dict": {"weight": torch.zeros(1000)}}, path)
        os.truncate(path, content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"^\S*last.ckpt: {reason}[^\n]*$"):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=False)
    assert not Path("was-run").exists()


def test_values_of_numpy_and_a_pipe(tmp_path: Path) -> None:
    """The first are read, as callbacks leave them; the second would be waited for."""
    content = {"state_dict": {}, "pytorch-lightning_version": "2.6", "best": np.float64(0.5), "curve": np.arange(3.0)}
    torch.save(content, tmp_path / "run.ckpt")
    found = AtomicCheckpointIO().load_checkpoint(tmp_path / "run.ckpt")
    assert (type(found["best"]), found["best"], found["curve"].tolist()) == (np.float64, 0.5, [0.0, 1.0, 2.0])
    os.mkfifo(tmp_path / "pipe.ckpt")
    with pytest.raises(CheckpointError, match=r"pipe\.ckpt: not a regular file but a pipe or device"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "pipe.ckpt")


def test_failed_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2, "bad": lambda: None}, path)
    assert torch.load(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
