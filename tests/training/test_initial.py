"""`model.init_from`: what a new run begins with, and that continuing a run is something else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

import mvit_video as mv
from mvit_video.models import MViT, Patch, Pooling, mvit
from mvit_video.models.checkpoints import describe
from mvit_video.training import InitFrom

Make = Callable[..., Any]


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
    make_task: Make, make_trainer: Make, tiny_data: Make, published: Path, caplog: pytest.LogCaptureFixture
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
    make_task: Make, make_trainer: Make, tiny_data: Make, published: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(max_epochs=1)
    task = make_task(net=small_net(), init_from=InitFrom(str(published)))
    start(trainer, task, tiny_data())
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    published.unlink()
    net = small_net()
    going_on = make_task(net=net, init_from=InitFrom(str(published)))
    start(make_trainer(max_epochs=1), going_on, tiny_data(), ckpt_path=tmp_path / "run.ckpt")
    assert torch.equal(net.class_token, task.net.class_token)


def test_a_second_stage_in_the_same_process_keeps_the_trained_weights(
    make_task: Make, make_trainer: Make, tiny_data: Make, published: Path
) -> None:
    task = make_task(net=small_net(), init_from=InitFrom(str(published)))
    trainer = make_trainer(max_epochs=1)
    start(trainer, task, tiny_data())
    trained = task.net.class_token.detach().clone()
    trainer.validate(task, datamodule=tiny_data(), verbose=False)
    assert torch.equal(task.net.class_token, trained)


def test_published_weights_can_be_scored_without_training(
    make_task: Make, make_trainer: Make, tiny_data: Make, published: Path
) -> None:
    task = make_task(net=small_net(), init_from=InitFrom(str(published)))
    make_trainer().validate(task, datamodule=tiny_data(), verbose=False)
    assert torch.equal(task.net.class_token, small_net(num_classes=7, seed=1).class_token)


def test_weights_that_do_not_fit_are_refused_by_key(
    make_task: Make, make_trainer: Make, tiny_data: Make, published: Path, tmp_path: Path
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


def test_a_checkpoint_of_a_run_builds_its_net(
    make_task: Make, make_trainer: Make, tiny_data: Make, tmp_path: Path
) -> None:
    """Also where the strides are none of a published net, which its tensors cannot tell."""
    trainer, task = make_trainer(max_epochs=1), make_task(net=small_net())
    start(trainer, task, tiny_data())
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    net = mv.create_model(checkpoint=tmp_path / "run.ckpt")
    assert describe(net) == describe(task.net)
    assert torch.equal(net.class_token, task.net.class_token)
