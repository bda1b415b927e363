"""`model.init_from`: what a new run begins with, and that continuing a run is something else."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

import mvit_video as mv
from mvit_video.checkpoints import ARCHITECTURE_KEY
from mvit_video.cli import main
from mvit_video.models import MViT, Patch, Pooling, mvit
from mvit_video.runs.trained_model import load_model
from mvit_video.training import InitFrom
from tests.fixtures.training import MakeTask, MakeTinyData, MakeTrainer


def small_net(num_classes: int = 3, seed: int = 0) -> MViT:
    torch.manual_seed(seed)
    return mvit(
        num_classes=num_classes, num_frames=2, crop_size=4, depths=(1, 1), embed_dim=8,
        patch=Patch((1, 1, 1), (1, 1, 1)), pooling=Pooling(stride_kv=(1, 1, 1)),
    )  # fmt: skip


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A checkpoint of SlowFast for seven classes."""
    mv.export_checkpoint(small_net(num_classes=7, seed=1), tmp_path / "k7.pyth", format="slowfast")
    return tmp_path / "k7.pyth"


def start(trainer: Trainer, task: Any, data: Any, **changes: Any) -> None:
    trainer.fit(task, datamodule=data, **changes)


def test_a_run_begins_with_the_weights_and_a_new_head(
    make_task: MakeTask,
    make_trainer: MakeTrainer,
    tiny_data: MakeTinyData,
    published: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    net = small_net()
    head = net.head.projection.weight.clone()
    with caplog.at_level(logging.INFO):
        start(make_trainer(max_steps=0), make_task(net=net, init_from=InitFrom(str(published))), tiny_data())
    assert torch.equal(net.class_token, small_net(num_classes=7, seed=1).class_token)
    assert torch.equal(net.head.projection.weight, head)
    assert f"weights from {published} (slowfast): " in caplog.text
    assert "the head is newly initialised: the checkpoint has 7 classes, the model 3" in caplog.text


def test_a_run_that_is_continued_keeps_its_own_weights(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, published: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(max_epochs=1)
    task = make_task(net=small_net(), init_from=InitFrom(str(published)))
    start(trainer, task, tiny_data())
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    net = small_net()
    going_on = make_task(net=net, init_from=InitFrom(str(published)))
    more = make_trainer(max_epochs=2, limit_train_batches=0)
    start(more, going_on, tiny_data(), ckpt_path=tmp_path / "run.ckpt")
    assert torch.equal(net.class_token, task.net.class_token)


def test_a_second_stage_in_the_same_process_keeps_the_trained_weights(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, published: Path
) -> None:
    task = make_task(net=small_net(), init_from=InitFrom(str(published)))
    trainer = make_trainer(max_epochs=1)
    start(trainer, task, tiny_data())
    trained = task.net.class_token.detach().clone()
    trainer.validate(task, datamodule=tiny_data(), verbose=False)
    assert torch.equal(task.net.class_token, trained)


def test_published_weights_can_be_scored_without_training(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, published: Path
) -> None:
    task = make_task(net=small_net(), init_from=InitFrom(str(published)))
    make_trainer().validate(task, datamodule=tiny_data(), verbose=False)
    assert torch.equal(task.net.class_token, small_net(num_classes=7, seed=1).class_token)


def test_weights_that_do_not_fit_are_refused_by_key(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, published: Path, tmp_path: Path
) -> None:
    content = torch.load(published, weights_only=True)
    del content["model_state"]["norm.bias"]
    torch.save(content, published)
    with pytest.raises(
        mv.CheckpointError, match=r"model\.init_from\.path: .*k7\.pyth .* 1 missing \(first norm\.bias\)"
    ):
        start(make_trainer(), make_task(net=small_net(), init_from=InitFrom(str(published))), tiny_data())
    start(
        make_trainer(max_steps=0),
        make_task(net=small_net(), init_from=InitFrom(str(published), strict=False)),
        tiny_data(),
    )


@pytest.mark.parametrize("num_classes", [0, 7])
def test_a_backbone_without_a_head_begins_a_run(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path, num_classes: int
) -> None:
    """Saved without one by this project, or cut off by another; the run's own head stays."""
    backbone = small_net(num_classes=num_classes, seed=1).state_dict()
    torch.save({key: value for key, value in backbone.items() if not key.startswith("head.")}, tmp_path / "back.pth")
    net = small_net()
    head = net.head.projection.weight.clone()
    start(make_trainer(max_steps=0), make_task(net=net, init_from=str(tmp_path / "back.pth")), tiny_data())
    assert torch.equal(net.class_token, backbone["class_token"])
    assert torch.equal(net.head.projection.weight, head)
    report = mv.load_checkpoint(small_net(), tmp_path / "back.pth", new_head=True)
    assert "the head is newly initialised: the checkpoint has none" in report.notes
    with pytest.raises(mv.CheckpointError, match=r"create_model\(..., num_classes=N\) starts a new head"):
        mv.load_checkpoint(small_net(), tmp_path / "back.pth")


def test_hints_name_options_that_the_caller_has(
    make_task: MakeTask,
    make_trainer: MakeTrainer,
    tiny_data: MakeTinyData,
    published: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = torch.load(published, weights_only=True)
    content["model_state"]["more"] = torch.zeros(1)
    torch.save(content, published)
    with pytest.raises(mv.CheckpointError, match=r"; set model\.init_from\.strict to false to load the rest$"):
        start(make_trainer(), make_task(net=small_net(), init_from=str(published)), tiny_data())
    with pytest.raises(mv.CheckpointError, match=r"load_checkpoint\(model, ..., strict=False\) loads the rest$"):
        mv.create_model("mvit_b_16x4", checkpoint=published)
    assert main(["convert", str(published), "out.pth", "--to", "slowfast", "--model", "mvit_b_16x4"]) == 1
    told = capsys.readouterr().err
    assert told.endswith("; leave out --model to convert the model that the file holds\n")
    assert "strict" not in told
    content["model_state"] = {key: value for key, value in content["model_state"].items() if "pool" not in key}
    torch.save(content, published)
    assert main(["convert", str(published), "out.pth", "--to", "slowfast"]) == 1
    assert "; --model NAME says which model it is" in capsys.readouterr().err
    with pytest.raises(
        mv.CheckpointError, match=r"; mvit-video convert .*k7\.pyth OUT --to mvit_video --model NAME makes"
    ):
        load_model(str(published))


def test_a_run_folder_stands_for_its_best_checkpoint(tmp_path: Path) -> None:
    net, other = small_net(seed=1), small_net(seed=2)
    (tmp_path / "checkpoints").mkdir()
    for name, one in (("last", other), ("best", net)):
        state = {f"net.{key}": value for key, value in one.state_dict().items()}
        content = {"pytorch-lightning_version": "2.6", "state_dict": state}
        torch.save(content | {ARCHITECTURE_KEY: one.recipe.to_metadata()}, tmp_path / "checkpoints" / f"{name}.ckpt")
    for folder in (tmp_path, tmp_path / "checkpoints"):
        assert torch.equal(mv.create_model(checkpoint=folder).class_token, net.class_token)
    (tmp_path / "checkpoints" / "best.ckpt").unlink()
    assert torch.equal(mv.create_model(checkpoint=tmp_path).class_token, other.class_token)


@pytest.mark.parametrize("habit", [{"pretrained": True}, {"weights": "DEFAULT"}])
def test_weights_that_would_be_downloaded_are_refused_with_the_way_to_load_some(habit: dict[str, Any]) -> None:
    with pytest.raises(mv.ConfigError, match=r"model mvit_b_16x4: no weights come with the package.*checkpoint="):
        mv.create_model("mvit_b_16x4", **habit)


def test_a_checkpoint_of_a_run_builds_its_net(
    make_task: MakeTask, make_trainer: MakeTrainer, tiny_data: MakeTinyData, tmp_path: Path
) -> None:
    """Also where the strides are none of a published net, which its tensors cannot tell."""
    trainer, task = make_trainer(max_epochs=1), make_task(net=small_net())
    start(trainer, task, tiny_data())
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    net = mv.create_model(checkpoint=tmp_path / "run.ckpt")
    assert net.recipe == task.net.recipe
    assert torch.equal(net.class_token, task.net.class_token)
