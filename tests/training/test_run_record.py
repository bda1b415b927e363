"""What a run leaves about itself: where its time went, and its curves."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from mvit_video.runs.record import read_record
from mvit_video.training import RunRecord, curves, step_times
from mvit_video.training.curves import Curves, draw_curves
from mvit_video.training.step_times import PARTS, StepTimes, what_bounds
from tests.fixtures.training import MakeTask, MakeTinyData, MakeTinyNet, MakeTrainer


def fit(trainer: Any, task: Any, data: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        trainer.fit(task, datamodule=data)


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt(), "stopped"), (ValueError(), "failed")])
def test_a_run_records_how_it_ended(
    error: BaseException, state: str, make_task: MakeTask, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    record, trainer = RunRecord(tmp_path / "run", seed=1, checkpoint=None), make_trainer()
    record.setup(trainer, make_task(), "fit")
    record.on_exception(trainer, make_task(), error)
    assert read_record(tmp_path / "run")["state"] == state


class Clock:
    """One that stands still but for what is slow."""

    now = 0.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class Slow(torch.nn.Module):
    """Passes a clip on, late on its way forward or back."""

    def __init__(self, net: torch.nn.Module, clock: Clock, forward: float = 0.0, backward: float = 0.0) -> None:
        super().__init__()
        self.net, self.clock, self.pause, self.pause_back = net, clock, forward, backward
        self.num_classes, self.num_frames, self.crop_size = net.num_classes, net.num_frames, net.crop_size

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        self.clock.pass_by(self.pause)
        logits = self.net(clip)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: self.clock.pass_by(self.pause_back))
        return logits


def slow_loader(data: Any, clock: Clock) -> Any:
    loader = data.train_dataloader()
    collate = loader.collate_fn

    def late(items: Any) -> Any:
        clock.pass_by(1.0)
        return collate(items)

    loader.collate_fn = late
    data.train_dataloader = lambda: loader
    return data


@pytest.mark.parametrize(("part", "bound"), [("data", "decoding"), ("forward", "the CPU"), ("backward", "the CPU")])
def test_the_slow_part_is_named(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tiny_net: MakeTinyNet,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, part: str, bound: str,
) -> None:  # fmt: skip
    clock = Clock()
    monkeypatch.setattr(step_times, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    net = Slow(tiny_net(), clock, **{part: 1.0}) if part != "data" else tiny_net()
    data = slow_loader(tiny_data(), clock) if part == "data" else tiny_data()
    trainer = make_trainer(StepTimes(), max_epochs=1)
    fit(trainer, make_task(net=net), data)
    shares = {name: float(trainer.callback_metrics[f"time/{name}"]) for name in PARTS}
    assert shares == {name: float(name == part) for name in PARTS}
    assert f"bounded by {bound}" in capsys.readouterr().out


def test_a_resumed_epoch_does_not_count_the_time_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning does not start an epoch that it resumes."""
    shares: dict[str, float] = {}
    clock = Clock()
    clock.pass_by(1000.0)
    monkeypatch.setattr(step_times, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    task: Any = SimpleNamespace(device=torch.device("cpu"), log=shares.__setitem__)
    times: Any = StepTimes()
    trainer = None
    times.on_train_start(trainer, task)
    times.on_train_batch_start(trainer, task, None, 3)
    clock.pass_by(1.0)
    times.on_before_backward(trainer, task, torch.zeros(()))
    times.on_train_epoch_end(trainer, task)
    assert shares == {"time/data": 0, "time/forward": 1, "time/backward": 0, "time/step": 0}


def test_waiting_that_is_not_most_of_the_time_does_not_bound_a_run() -> None:
    shares = {"data": 0.25, "forward": 0.2, "backward": 0.5, "step": 0.05}
    assert what_bounds(shares, "cpu") == (
        "time: data 25%, forward 20%, backward 50%, step 5%; bounded by the CPU\n"
        "up to 25% can be saved by more data.loading.num_workers or `mvit-video prepare`"
    )


def test_a_gpu_is_called_one() -> None:
    shares = {"data": 0.05, "forward": 0.3, "backward": 0.6, "step": 0.05}
    assert what_bounds(shares, "cuda") == ("time: data 5%, forward 30%, backward 60%, step 5%; bounded by the GPU")


def test_curves_of_a_run(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path
) -> None:
    logger = CSVLogger(tmp_path, name="run", version="version_0")
    folder = tmp_path / "run" / "version_0"
    fit(make_trainer(Curves(folder), logger=logger), make_task(), tiny_data())
    with Image.open(folder / "curves.png") as picture:
        assert picture.size == (960, 936)  # three panels
    assert not list(folder.glob(".*"))


def test_curves_of_a_run_that_fails(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path
) -> None:
    class Failing(Callback):
        def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == 4:
                raise RuntimeError("on purpose")

    folder = tmp_path / "run" / "version_0"
    logger = CSVLogger(tmp_path, name="run", version="version_0")
    with pytest.raises(RuntimeError, match="on purpose"):
        fit(make_trainer(Curves(folder), Failing(), logger=logger), make_task(), tiny_data())
    assert (folder / "curves.png").exists()


def test_curves_without_validation(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("epoch,step,lr,train/loss\n0,0,0.1,\n0,0,,2.5\n0,9,0.05,1.5\n")
    draw_curves(metrics, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (960, 624)


def test_curves_mark_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(curves, "write_png", lambda figure, target: drawn.append(figure))
    metrics = tmp_path / "metrics.csv"
    scores = [(50.0, 100.0), (75.5, 100.0), (75.5, 100.0), (float("nan"), 100.0)]
    lines = [f"{epoch},{10 * epoch + 9},0.1,{top1},{top5}" for epoch, (top1, top5) in enumerate(scores)]
    metrics.write_text("\n".join(["epoch,step,train/loss,val/top1,val/top5", *lines]) + "\n")
    draw_curves(metrics, tmp_path / "curves.png")
    _, accuracy, _ = drawn[0].axes
    assert [line.get_label() for line in accuracy.get_lines()] == ["top-1", "best epoch: 2 (75.5 %)"]  # the first best
    assert list(accuracy.get_lines()[1].get_xdata()) == [19, 19]
    assert all(float(tick).is_integer() for tick in accuracy.get_xticks())
    metrics.write_text("\n".join(["epoch,step,train/loss,val/top1,val/top5", *lines, "4,49,0.1,60,99"]) + "\n")
    draw_curves(metrics, tmp_path / "curves.png")
    assert [line.get_label() for line in drawn[1].axes[1].get_lines()][:2] == ["top-1", "top-5"]
