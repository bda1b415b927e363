"""What the published recipe adds to plain training: mixing, scaled rates, averages of weights, many labels, speed."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch.nn import functional as F

import mvit_video as mv
from mvit_video.data.clips.mixing import Mixing
from mvit_video.models.architecture import Patch
from mvit_video.training import EpochLine, LastCheckpoint, Schedule, Task
from mvit_video.training.speed import Speed
from mvit_video.types import ConfigError
from tests.fixtures.training import MakeTask, MakeTinyData, MakeTinyNet, MakeTrainer


def fit(trainer: Trainer, task: Task, data: LightningDataModule, ckpt_path: Path | None = None) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch")
        warnings.filterwarnings("ignore", "You're using the WeightAveraging callback with a model that overrides")
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        trainer.fit(task, datamodule=data, ckpt_path=ckpt_path)


class Rates(Callback):
    def __init__(self) -> None:
        self.lrs: list[list[float]] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.lrs.append([group["lr"] for group in trainer.optimizers[0].param_groups])


@pytest.mark.parametrize(("accumulate", "expected"), [(1, 0.01 * 2 / 8), (3, 0.01 * 6 / 8)])
def test_the_rate_follows_the_clips_of_a_step_and_says_so(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, caplog: pytest.LogCaptureFixture,
    accumulate: int, expected: float,
) -> None:  # fmt: skip
    rates, data = Rates(), tiny_data(batch_size=2)
    data.clips_per_batch = 2
    schedule = Schedule(warmup_epochs=0, end_factor=1.0, reference_clips=8)
    fit(make_trainer(rates, max_epochs=1, accumulate_grad_batches=accumulate), make_task(schedule=schedule), data)
    assert rates.lrs[0] == pytest.approx([expected, expected])
    line = next(message for message in caplog.messages if message.startswith("peak learning rate"))
    assert f"{expected:.3g}: 0.01 x {2 * accumulate} clips per step" in line


@pytest.mark.filterwarnings("ignore:The dirpath has changed from")
@pytest.mark.parametrize("batch_size", [2, 6])
def test_the_rate_of_an_epoch_does_not_depend_on_the_batches_of_earlier_ones(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path, batch_size: int
) -> None:
    class RateOfEpoch(Callback):
        def __init__(self) -> None:
            self.lrs: dict[float, float] = {}

        def on_train_batch_start(self, trainer: Trainer, task: Task, batch: Any, batch_idx: int) -> None:
            epoch = trainer.current_epoch + batch_idx / trainer.num_training_batches
            self.lrs[epoch] = max(group["lr"] for group in trainer.optimizers[0].param_groups)

    def train(folder: str, epochs: int, batch_size: int, max_steps: int = -1) -> dict[float, float]:
        ckpt_path = tmp_path / "first" / "checkpoints" / "last.ckpt" if folder in ("other", "steps") else None
        rates, data = RateOfEpoch(), tiny_data(batch_size=batch_size)
        data.clips_per_batch = batch_size
        task = make_task(schedule=Schedule(warmup_epochs=2, reference_clips=12))
        trainer = make_trainer(
            rates, LastCheckpoint(), max_epochs=epochs, max_steps=max_steps, enable_checkpointing=True,
            default_root_dir=tmp_path / folder,
        )  # fmt: skip
        fit(trainer, task, data, ckpt_path)
        return rates.lrs

    in_one_go = train("one", 8, 4)
    train("first", 4, 4)
    continued = train("other", 8, batch_size)
    shared = continued.keys() & in_one_go.keys()
    assert len(shared) == (12 if batch_size == 2 else 4)
    for epoch in shared:
        assert continued[epoch] == pytest.approx(in_one_go[epoch] * batch_size / 4, rel=1e-12)
    by_steps = train("steps", -1, 4, max_steps=24)
    assert by_steps == {epoch: rate for epoch, rate in in_one_go.items() if epoch >= 4}


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("accumulate", [2, 4])
def test_a_run_stopped_in_an_epoch_has_the_rates_of_one_that_was_not(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path, accumulate: int
) -> None:
    """Five batches per epoch: the last step of each has fewer than the others."""
    whole, before, after = Rates(), Rates(), Rates()
    settings: dict[str, Any] = {"max_epochs": 3, "accumulate_grad_batches": accumulate}
    fit(make_trainer(whole, **settings), make_task(), tiny_data(size=10))
    limited = make_trainer(before, LastCheckpoint(4), enable_checkpointing=True, max_steps=4, **settings)
    fit(limited, make_task(schedule=Schedule(warmup_epochs=0.5)), tiny_data(size=10))
    fit(make_trainer(after, **settings), make_task(), tiny_data(size=10), tmp_path / "checkpoints" / "last.ckpt")
    assert after.lrs == whole.lrs[-len(after.lrs) :]
    assert len(before.lrs) + len(after.lrs) == 15


def test_the_loss_and_the_rate_of_accumulated_batches(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight batches in a step where an epoch has three: a step has three, in the rate and in the gradient too."""

    def train(accumulate: int) -> tuple[str, list[list[float]], dict[str, torch.Tensor]]:
        rates, data = Rates(), tiny_data(batch_size=4)
        data.clips_per_batch = 4
        task = make_task(schedule=Schedule(warmup_epochs=0, reference_clips=8))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval")
            fit(make_trainer(rates, EpochLine(), max_epochs=2, accumulate_grad_batches=accumulate), task, data)
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
        return lines[0], rates.lrs, task.state_dict()

    line, _, _ = train(1)
    assert 0.9 < float(line.split("loss ")[1].split()[0]) < 1.6  # ln(3) at first
    lines = [train(3)]
    with pytest.warns(UserWarning, match=r"accumulate_grad_batches=8 is more than the 3 batches of an epoch: a step"):
        lines.append(train(8))
    assert lines[0][:2] == lines[1][:2]
    assert lines[0][1][0] == pytest.approx([0.01 * 12 / 8] * 2)
    assert 0.9 < float(lines[0][0].split("loss ")[1].split()[0]) < 1.6
    for name, value in lines[0][2].items():
        assert torch.equal(value, lines[1][2][name]), name


def test_a_scaled_rate_needs_to_know_the_clips(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData
) -> None:
    with pytest.raises(ConfigError, match=r"model.schedule.reference_clips needs a data module"):
        fit(make_trainer(), make_task(schedule=Schedule(reference_clips=8, warmup_epochs=0)), tiny_data())


def test_mixing_changes_training_only_and_repeats_exactly(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData
) -> None:
    finals = []
    for mixing in (None, Mixing(), Mixing()):
        task, trainer = make_task(mixing=mixing), make_trainer()
        fit(trainer, task, tiny_data(batch_size=4))
        finals.append((task.net.head.weight.detach().clone(), trainer.callback_metrics))
    assert not torch.equal(finals[0][0], finals[1][0])
    assert torch.equal(finals[1][0], finals[2][0])
    assert finals[1][1]["val/top1"] > 30


def test_smoothing_of_mixed_targets(make_task: MakeTask) -> None:
    task = make_task(label_smoothing=0.2)
    logits, target = torch.randn(4, 3), torch.eye(3)[[0, 1, 2, 0]] * 0.7 + torch.eye(3)[[1, 1, 0, 2]] * 0.3
    smooth = target * 0.8 + 0.2 / 3
    expected = -(smooth * logits.log_softmax(dim=1)).sum(dim=1).mean()
    assert task._loss(logits, target, 0.2) == pytest.approx(float(expected), rel=1e-5)


def test_average_of_weights_is_validated_and_saved_and_goes_on(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path
) -> None:
    class Weights(Callback):
        def __init__(self) -> None:
            self.steps: list[torch.Tensor] = []
            self.validated: list[torch.Tensor] = []

        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
            self.steps.append(pl_module.net.head.weight.detach().clone())

        def on_validation_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
            self.validated.append(pl_module.net.head.weight.detach().clone())

    def run(max_epochs: int, ckpt_path: Path | None = None) -> tuple[Weights, Task]:
        weights, task = Weights(), make_task(schedule=Schedule(warmup_epochs=0, end_factor=1.0))
        trainer = make_trainer(weights, EMAWeightAveraging(decay=0.8), max_epochs=max_epochs)
        fit(trainer, task, tiny_data(), ckpt_path)
        return weights, task

    weights, task = run(1)
    average = weights.steps[0]
    for step in weights.steps[1:]:
        average = 0.8 * average + 0.2 * step
    assert torch.allclose(weights.validated[-1], average, atol=1e-6)
    assert not torch.allclose(average, weights.steps[-1])
    assert torch.allclose(task.net.head.weight, average, atol=1e-6)


def test_the_average_has_the_head_that_the_data_ask_for(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData
) -> None:
    class Heads(Callback):
        def __init__(self) -> None:
            self.steps: list[torch.Tensor] = []

        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
            self.steps.append(pl_module.net.head.projection.weight.detach().clone())

    net = mv.create_model(
        "mvit_s_16x4", num_classes=0, depths=(1,), embed_dim=16, num_frames=2, crop_size=4,
        patch=Patch(kernel=(1, 2, 2), stride=(1, 2, 2)),
    )  # fmt: skip
    heads, task = Heads(), make_task(net=net, schedule=Schedule(warmup_epochs=0, end_factor=1.0))
    fit(make_trainer(heads, EMAWeightAveraging(decay=0.8), max_epochs=1), task, tiny_data())
    average = heads.steps[0]
    for step in heads.steps[1:]:
        average = 0.8 * average + 0.2 * step
    assert torch.allclose(task.net.head.projection.weight, average, atol=1e-6)
    assert not torch.allclose(average, heads.steps[-1])


def test_many_labels(make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData) -> None:
    data = tiny_data()
    data.is_multilabel = True
    collate = data.train_dataloader().collate_fn

    def with_many(items: Any) -> Any:
        batch = collate(items)
        return batch._replace(label=F.one_hot(batch.label, 3).float())

    for name in ("train_dataloader", "val_dataloader"):
        loader = getattr(data, name)()
        loader.collate_fn = with_many
        setattr(data, name, lambda loader=loader: loader)
    trainer, task = make_trainer(max_epochs=10), make_task(multi_label=True, label_smoothing=0.0, mixing=Mixing())
    fit(trainer, task, data)
    assert "val/top1" not in trainer.callback_metrics
    assert trainer.callback_metrics["val/mAP"] > 60
    batch = next(iter(data.val_dataloader()))
    expected = task.net.eval()(batch.clip).sigmoid()
    assert torch.allclose(task.eval().test_step(batch, 0)["probabilities"], expected)


@pytest.mark.parametrize("declared", [True, False])
def test_kind_of_labels_must_agree(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, declared: bool
) -> None:
    data = tiny_data()
    data.is_multilabel = not declared
    with pytest.raises(ConfigError, match=f"model.multi_label={str(declared).lower()} but the annotations give"):
        fit(make_trainer(), make_task(multi_label=declared), data)


def test_memory_switches_change_no_number() -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"num_classes": 3, "depths": (1, 1), "embed_dim": 16, "num_frames": 4, "crop_size": 32}
    net = mv.create_model("mvit_s_16x4", **settings, drop_path_rate=0.0, dropout=0.0)
    lean = mv.create_model("mvit_s_16x4", **settings, drop_path_rate=0.0, dropout=0.0)
    lean.load_state_dict(net.state_dict())
    speed = Speed(channels_last=True, activation_checkpointing=True)
    speed.apply(lean)
    clip = torch.randn(2, 3, 4, 32, 32)
    ordered = speed.order(clip)
    assert ordered.is_contiguous(memory_format=torch.channels_last_3d)
    expected, found = net(clip), lean(ordered)
    assert torch.allclose(found, expected, atol=1e-5)
    expected.sum().backward()
    found.sum().backward()
    for (name, ours), theirs in zip(net.named_parameters(), lean.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-4), name  # type: ignore[arg-type]


def test_a_compiled_net_trains_alike_under_the_same_names(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tiny_net: MakeTinyNet
) -> None:
    states = []
    for speed in (Speed(), Speed(compile="aot_eager")):
        torch.manual_seed(0)
        task, trainer = make_task(net=tiny_net(dropout=0.0), speed=speed), make_trainer()
        fit(trainer, task, tiny_data(batch_size=4))
        states.append(task.net.state_dict())
    assert trainer.callback_metrics["train/compiled_graphs"] == 2  # one that trains, one that validates
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], atol=1e-5), name


def test_impossible_speed(tiny_net: MakeTinyNet) -> None:
    with pytest.raises(ConfigError, match=r"backend of torch.compile \(.*inductor.*\), got 'fast'"):
        Speed(compile="fast")
    with pytest.raises(ConfigError, match="activation_checkpointing: TinyNet has no such switch"):
        Speed(activation_checkpointing=True).apply(tiny_net())


def test_sgd_takes_the_groups(make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData) -> None:
    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    trainer = make_trainer(max_epochs=1)
    fit(trainer, make_task(optimizer=optimizer, layer_decay=0.75), tiny_data())
    assert {group["nesterov"] for group in trainer.optimizers[0].param_groups} == {True}


def test_a_net_without_a_head_gets_one_for_the_classes_of_the_data(
    make_task: MakeTask,
    make_trainer: MakeTrainer,
    tiny_data: MakeTinyData,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def task() -> Task:
        net = mv.create_model(
            "mvit_s_16x4", num_classes=0, depths=(1,), embed_dim=16, num_frames=2, crop_size=4,
            patch=Patch(kernel=(1, 2, 2), stride=(1, 2, 2)),
        )  # fmt: skip
        return make_task(net=net)

    data, trainer, trained = tiny_data(class_names=("bow", "run", "sit")), make_trainer(max_epochs=1), task()
    fit(trainer, trained, data)
    assert "head for the 3 classes of the data: bow, run, sit" in caplog.text
    assert trained.net.head.projection.weight.shape == (3, 16)
    trainer.save_checkpoint(tmp_path / "last.ckpt")

    class Restored(Callback):
        def on_train_start(self, trainer: Trainer, task: Any) -> None:
            self.head = task.net.head.projection.weight.detach().clone()

    restored = Restored()
    fit(make_trainer(restored, max_epochs=2), task(), data, tmp_path / "last.ckpt")
    assert torch.equal(restored.head, trained.net.head.projection.weight)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fused_optimizers_are_clipped(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, precision: str
) -> None:
    class Norms(Callback):
        def __init__(self) -> None:
            self.norms: list[float] = []

        def on_before_zero_grad(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            if gradients:
                self.norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    norms = Norms()
    task = make_task(optimizer=partial(torch.optim.AdamW, lr=0.01, fused=True))
    fit(make_trainer(norms, max_epochs=1, precision=precision, gradient_clip_val=0.01), task, tiny_data())
    assert norms.norms
    assert max(norms.norms) == pytest.approx(0.01, rel=0.01)
