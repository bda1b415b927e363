"""The task: what it logs, what it refuses, and which settings win."""

import copy
import math
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from mvit_video.training import Schedule, Task
from mvit_video.training.parameters import decay_groups
from mvit_video.types import CheckpointError, ConfigError
from tests.fixtures.training import MakeTask, MakeTinyData, MakeTinyNet, MakeTrainer


class Recorder(Callback):
    """Learning rates and metrics of every step."""

    def __init__(self) -> None:
        self.lrs: list[float] = []
        self.weight_decays: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.lrs.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.weight_decays.append(trainer.optimizers[0].param_groups[0]["weight_decay"])


def fit(trainer: Trainer, task: Task, data: LightningDataModule, ckpt_path: Path | None = None) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch")
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        trainer.fit(task, datamodule=data, ckpt_path=ckpt_path)


def test_norms_and_biases_do_not_decay(tiny_net: MakeTinyNet) -> None:
    net = tiny_net()
    decayed, free = ({id(p) for p in group["params"]} for group in decay_groups(net))
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert {names[i] for i in decayed} == {"class_token", "embed.weight", "head.weight"}
    assert {names[i] for i in free} == {"embed.bias", "norm.weight", "norm.bias", "head.bias"}


def test_decay_of_the_optimizer_reaches_one_group_only(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData
) -> None:
    trainer = make_trainer(max_epochs=1)
    fit(trainer, make_task(), tiny_data())
    assert [group["weight_decay"] for group in trainer.optimizers[0].param_groups] == [0.05, 0.0]


@pytest.mark.parametrize("accumulate", [1, 4])
def test_schedule_counts_optimizer_steps(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, accumulate: int
) -> None:
    recorder = Recorder()
    task = make_task(schedule=Schedule(warmup_epochs=1, start_factor=0.1, end_factor=0.0))
    fit(make_trainer(recorder, accumulate_grad_batches=accumulate), task, tiny_data())
    steps_per_epoch = math.ceil(6 / accumulate)
    expected = [
        0.01 * task.schedule.factor((batch % 6 // accumulate + batch // 6 * steps_per_epoch) / steps_per_epoch, 2)
        for batch in range(12)
    ]
    assert recorder.lrs == pytest.approx(expected, abs=1e-12)
    assert recorder.lrs[0] == pytest.approx(0.001)
    assert recorder.lrs[6] == pytest.approx(0.01)


def test_logs_percent(make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData) -> None:
    trainer = make_trainer(max_epochs=8)
    fit(trainer, make_task(), tiny_data())
    metrics = trainer.callback_metrics
    assert set(metrics) == {"lr", "train/loss", "train/loss_epoch", "train/top1", "val/loss", "val/top1"}
    assert 34 < float(metrics["val/top1"]) <= 100
    num_right = float(metrics["val/top1"]) * 12 / 100
    assert num_right == pytest.approx(round(num_right), abs=1e-5)


def test_goes_on_after_a_batch_without_videos(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData
) -> None:
    class Emptied(Callback):
        def on_train_batch_end(self, trainer: Trainer, task: Task, outputs: Any, batch: Any, batch_idx: int) -> None:
            assert torch.isfinite(outputs["loss"])

    data = tiny_data()
    data.on_after_batch_transfer = lambda batch, _: batch._replace(clip=batch.clip[:0], label=batch.label[:0])
    trainer = make_trainer(Emptied(), max_epochs=1, limit_val_batches=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*compute.*before the ``update``")
        fit(trainer, make_task(), data)
    assert trainer.global_step == 6


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"num_frames": 8}, r"data\.clip\.num_frames=8 but model\.net\.num_frames=2: set both to the same value"),
        ({"crop_size": 5}, r"data\.input\.crop_size=5 but model\.net\.crop_size=4"),
        ({"num_classes": 4}, r"a\.mp4 has label 3 but model\.net\.num_classes=3: correct the label or set"),
    ],
)
def test_refuses_a_net_that_does_not_fit_the_data(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(make_trainer(), make_task(), tiny_data(**data))


def test_tells_that_the_folders_name_fewer_classes_than_the_net(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData
) -> None:
    with pytest.warns(
        UserWarning, match=r"name 2 classes but model\.net\.num_classes=3: set model\.net\.num_classes to 2"
    ):
        fit(make_trainer(), make_task(), tiny_data(num_classes=2, class_names=("a", "b")))


def test_tells_that_the_run_ends_in_its_warmup(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData
) -> None:
    with pytest.warns(UserWarning, match=r"warmup_epochs=2 but the run has 2 epochs: it ends before"):
        fit(make_trainer(), make_task(schedule=Schedule(warmup_epochs=2)), tiny_data())


def test_refuses_a_run_without_end(make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs=-1 needs trainer\.max_steps"):
        fit(make_trainer(max_epochs=-1), make_task(), tiny_data())


def test_config_wins_over_the_checkpoint(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path
) -> None:
    trainer = make_trainer(max_epochs=1)
    fit(trainer, make_task(), tiny_data())
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    recorder = Recorder()
    task = make_task(optimizer=partial(torch.optim.AdamW, lr=0.5, weight_decay=0.25))
    fit(make_trainer(recorder), task, tiny_data(), tmp_path / "first.ckpt")
    assert recorder.lrs == [0.5 * task.schedule.factor(step / 6, 2) for step in range(6, 12)]
    assert set(recorder.weight_decays) == {0.25}


def test_refuses_the_weights_of_another_net(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tiny_net: MakeTinyNet, tmp_path: Path
) -> None:
    trainer = make_trainer(max_epochs=1)
    fit(trainer, make_task(), tiny_data())
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    with pytest.raises(CheckpointError, match=r"2 tensors differ, first net\.head\.bias \(3,\) instead of \(5,\)"):
        fit(make_trainer(), make_task(net=tiny_net(num_classes=5)), tiny_data(), tmp_path / "first.ckpt")


def test_checkpoint_holds_no_hyperparameters(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path
) -> None:
    trainer = make_trainer(max_epochs=1)
    fit(trainer, make_task(), tiny_data())
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    assert "hyper_parameters" not in torch.load(tmp_path / "first.ckpt", weights_only=True)


def test_test_step_gives_probabilities(make_task: MakeTask, tiny_net: MakeTinyNet) -> None:
    task = make_task().eval()
    batch = type("Batch", (), {"clip": torch.randn(4, 3, 2, 4, 4), "label": torch.zeros(4, dtype=torch.long)})()
    probabilities = task.test_step(batch, 0)["probabilities"]
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(4))
    torch.testing.assert_close(probabilities, nn.functional.softmax(task.net(batch.clip), -1))


def test_does_not_change_the_net_it_is_given(make_task: MakeTask, tiny_net: MakeTinyNet) -> None:
    net = tiny_net()
    before = copy.deepcopy(net.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in make_task(net=net).net.state_dict().items())


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_run_on_a_cpu_tunes_the_net_for_it(
    make_task: MakeTask, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    tuned: list[nn.Module] = []
    monkeypatch.setattr("mvit_video.training.task.tune_for_cpu", tuned.append)
    task = make_task()
    task.trainer = make_trainer()
    task.trainer.datamodule = None  # type: ignore[attr-defined]
    task.trainer.state.fn = TrainerFn.TESTING
    monkeypatch.setattr(type(task.trainer.strategy), "root_device", torch.device(device))
    task.setup("test")
    assert tuned == ([task.net] if device == "cpu" else [])
