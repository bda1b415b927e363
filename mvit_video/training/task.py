"""The Lightning task: loss, metrics and optimiser of a video classifier."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from mvit_video.training.initial import InitFrom, begin_with, note_architecture
from mvit_video.training.metrics import PercentCorrect
from mvit_video.training.parameters import check_same_tensors, decay_groups
from mvit_video.training.schedule import Schedule
from mvit_video.types import ConfigError

if TYPE_CHECKING:
    from mvit_video.data.dataset import ClipBatch


class Task(LightningModule):
    """Trains and scores `net` on clips.

    Args:
        net: maps a clip `(B, 3, T, H, W)` to logits; has `num_classes`, `num_frames` and `crop_size`.
        optimizer: makes the optimiser from parameter groups; its learning rate is the peak of the schedule.
        schedule: the learning rate over the run.
        label_smoothing: share of the target spread over all classes.
        init_from: weights that `net` begins with when no run is continued; None keeps its own.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable,
        schedule: Schedule = Schedule(),
        label_smoothing: float = 0.0,
        init_from: InitFrom | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.optimizer = optimizer
        self.schedule = schedule
        self.label_smoothing = label_smoothing
        self.init_from = init_from
        num_classes = cast(int, net.num_classes)
        self.train_top1 = PercentCorrect(num_classes, top_k=1)
        self.val_loss = MeanMetric()
        self.val_top1 = PercentCorrect(num_classes, top_k=1)
        self.val_top5 = PercentCorrect(num_classes, top_k=5)
        self._group_settings: list[dict[str, Any]] = []
        self._epoch_steps, self._max_epochs = 1, math.inf  # known when training starts

    def setup(self, stage: str) -> None:
        """Compares what `data` yields with what `net` takes.

        Raises:
            ConfigError: they differ.
        """
        data: Any = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if data is None:
            return
        for key, ours, name in (
            ("data.clip.num_frames", data.clip.num_frames, "num_frames"),
            ("data.crop_size", data.crop_size, "crop_size"),
        ):
            if ours != getattr(self.net, name):
                raise ConfigError(
                    f"{key}={ours} but model.net.{name}={getattr(self.net, name)}: "
                    "set both to the same value in the config"
                )
        num_classes = cast(int, self.net.num_classes)
        if data.num_classes > num_classes:
            raise ConfigError(
                f"{data.example_of(data.num_classes - 1)} has label {data.num_classes - 1} but model.net.num_classes="
                f"{num_classes}: correct the label or set model.net.num_classes to {data.num_classes}"
            )
        if data.class_names is not None and data.num_classes < num_classes:  # meant for a part of a data set at most
            rank_zero_warn(
                f"the annotations name {data.num_classes} classes but model.net.num_classes={num_classes}: "
                f"set model.net.num_classes to {data.num_classes}"
            )

    def on_fit_start(self) -> None:
        """Fills `net` with the weights that it begins with, unless a checkpoint was restored before.

        Raises:
            CheckpointError: they cannot be read or do not fit.
        """
        if self.init_from is not None:
            begin_with(self.net, self.init_from)
            self.init_from = None  # what is tested later in the same process are the trained weights

    def on_validation_start(self) -> None:
        """Likewise, for a validation without training."""
        self.on_fit_start()

    def on_test_start(self) -> None:
        """Likewise, for a test without training."""
        self.on_fit_start()

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Cross entropy of the batch."""
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log("train/top1", self.train_top1, on_step=False, on_epoch=True)
        size = len(batch.label)
        if size == 0:  # every video failed; the other processes wait for this one's gradients
            return cast(Tensor, sum(parameter.sum() * 0 for parameter in self.net.parameters()))
        logits = self.net(batch.clip)
        loss = F.cross_entropy(logits, batch.label, label_smoothing=self.label_smoothing)
        self.train_top1.update(logits.detach(), batch.label)
        self.log("train/loss", loss, prog_bar=True, batch_size=size)
        return loss

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Scores clips, not videos: one clip of each video."""
        known = batch.label >= 0
        if known.any():
            logits, label = self.net(batch.clip[known]), batch.label[known]
            self.val_loss.update(F.cross_entropy(logits, label), len(label))
            self.val_top1.update(logits, label)
            self.val_top5.update(logits, label)
        # Also after an empty batch: a process that logs nothing would not take part in the reduction.
        self.log("val/loss", self.val_loss)
        self.log("val/top1", self.val_top1, prog_bar=True)
        self.log("val/top5", self.val_top5)

    def test_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Tensor]:
        """Probabilities of each view; `evaluation` joins the views of a video."""
        if len(batch.label) == 0:
            return {"probabilities": torch.zeros(0, cast(int, self.net.num_classes), device=self.device)}
        return {"probabilities": self.net(batch.clip).float().softmax(dim=-1)}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser without decay on norms and biases, its schedule stepped with it."""
        optimizer = self.optimizer(decay_groups(self.net))
        self._group_settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        # A closure, because LambdaLR writes the attributes of a callable object into the checkpoint and restores them.
        scheduler = LambdaLR(optimizer, lambda step: self.schedule.factor(step / self._epoch_steps, self._max_epochs))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """Fixes the length of the schedule, and lets the config win over the settings a checkpoint brings back.

        The length is not asked for earlier: Lightning would set up the loaders for it, too early for the position in
        the epoch that a checkpoint restores.

        Raises:
            ConfigError: the run has no end.
        """
        num_steps = self.trainer.estimated_stepping_batches
        self._epoch_steps = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        self._max_epochs = num_steps / self._epoch_steps
        if math.isinf(num_steps):
            raise ConfigError("trainer.max_epochs=-1 needs trainer.max_steps: the schedule ends with the run")
        if self.schedule.warmup_epochs >= self._max_epochs:
            rank_zero_warn(
                f"model.schedule.warmup_epochs={self.schedule.warmup_epochs:g} but the run has {self._max_epochs:g} "
                "epochs: it ends before the learning rate reaches its peak"
            )
        scheduler = cast(LambdaLR, self.lr_schedulers())
        scheduler.base_lrs = [settings["lr"] for settings in self._group_settings]
        factor = scheduler.lr_lambdas[0](scheduler.last_epoch)
        for group, settings in zip(scheduler.optimizer.param_groups, self._group_settings, strict=True):
            group.update(settings, initial_lr=settings["lr"], lr=settings["lr"] * factor)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds how the net is built."""
        note_architecture(self.net, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses the weights of another model.

        Raises:
            CheckpointError: names or shapes differ.
        """
        check_same_tensors(self.state_dict(), checkpoint["state_dict"])
        self.init_from = None
