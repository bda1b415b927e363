"""The checkpoints of a run: the last one and the best one."""

from __future__ import annotations

import math
import shutil
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from mvit_video.jobs import atomic_write
from mvit_video.training.checkpoint_io import why_unwritten
from mvit_video.types import ConfigError, TrainingError


class LastCheckpoint(ModelCheckpoint):
    """`last.ckpt`, written after every epoch, and within it after every `every_n_steps` optimiser steps.

    Lightning's `save_last` writes it only when the best one is written.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        if every_n_steps is not None and every_n_steps < 1:
            raise ConfigError(f"checkpoint_every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save between two optimiser steps, but not before the validation at the end of the epoch."""
        if self.every_n_steps is None or trainer.is_last_batch or self._should_skip_saving_checkpoint(trainer):
            return
        accumulates = (batch_idx + 1) % trainer.accumulate_grad_batches
        if trainer.global_step % self.every_n_steps == 0 and not accumulates:
            self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last checkpoint again if that failed.

        Raises:
            TrainingError: it still cannot be written.
        """
        path = self.best_model_path
        if path and why_unwritten(trainer, path):
            self._save_checkpoint(trainer, path)
            if reason := why_unwritten(trainer, path):
                raise TrainingError(
                    f"{path}: the end of the run could not be saved ({reason}); make room, and continue"
                )


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`, with the highest score in validation; a resumed run begins with a copy of the previous run's.

    Of two equal scores the one with the lower `val/loss` is better. An epoch with a non-finite score or loss is never
    the best. Lightning forgets the best score when the folder changes, and keeps the first of equal scores.

    Attributes:
        best_epoch: the epoch of `best.ckpt`, counted from 1; None before there is one.
        best_loss: its `val/loss`; None where nothing logs one.
    """

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="val/top1", mode="max", enable_version_counter=False)
        self.best_epoch: int | None = None
        self.best_loss: float | None = None
        self._prints = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the name of the score from the task, and note which process copies and warns."""
        super().setup(trainer, pl_module, stage)
        if not trainer.enable_validation:
            self.save_top_k = 0  # there is no best
        self.monitor = next(iter(getattr(pl_module, "val_metrics", {})), self.monitor)
        self._prints = trainer.is_global_zero

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the score and the file; a missing file counts as none."""
        previous, path = Path(state_dict["best_model_path"]), Path(str(self.dirpath)) / "best.ckpt"
        if state_dict["best_model_path"] and previous.parent != path.parent:
            if previous.is_file():
                score = state_dict["best_model_score"]
                state_dict = state_dict | {
                    "dirpath": self.dirpath, "best_model_path": str(path), "best_k_models": {str(path): score},
                    "kth_best_model_path": str(path), "kth_value": score,
                }  # fmt: skip
                if self._prints:
                    with atomic_write(path) as unfinished:
                        shutil.copyfile(previous, unfinished)
            elif self._prints:
                text = f"{previous} is gone: the best checkpoint is chosen from the remaining epochs"
                warnings.warn(text, stacklevel=2)
        self._restore(state_dict)

    def describe(self) -> str:
        """Return the best epoch and its scores, in one line."""
        loss = "" if self.best_loss is None else f", val/loss {self.best_loss:.4f}"
        scores = f"{self.monitor} {float(self.kth_value):.2f}{loss}"
        # checkpoints of earlier versions do not hold the epoch
        what = scores if self.best_epoch is None else f"epoch {self.best_epoch} ({scores})"
        return f"{Path(self.best_model_path).name}: {what}"

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state, with the epoch and the loss of the best checkpoint."""
        return super().state_dict() | {"best_epoch": self.best_epoch, "best_loss": self.best_loss}

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Return whether an epoch is better than the best so far."""
        loss = _loss(trainer)
        if current is None or not current.isfinite() or not (loss is None or math.isfinite(loss)):
            return False
        if not self.best_k_models or current > self.kth_value:
            return super().check_monitor_top_k(trainer, current)
        has_losses = loss is not None and self.best_loss is not None
        is_better = has_losses and current == self.kth_value and loss < self.best_loss  # type: ignore[operator]
        return trainer.strategy.reduce_boolean_decision(bool(is_better))

    def _update_best_and_save(self, current: Tensor, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        """Save; ignore a score whose file could not be written."""
        before = self.state_dict() | {"best_k_models": dict(self.best_k_models)}
        # before the checkpoint, which holds them, is written
        self.best_epoch, self.best_loss = trainer.current_epoch + 1, _loss(trainer)
        super()._update_best_and_save(current, trainer, monitor_candidates)
        if why_unwritten(trainer, self.best_model_path):
            self._restore(before)

    def _restore(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if self.best_k_models:  # else the file is gone
            self.best_epoch, self.best_loss = state_dict.get("best_epoch"), state_dict.get("best_loss")


def _loss(trainer: Trainer) -> float | None:
    value = trainer.callback_metrics.get("val/loss")
    return None if value is None else float(value)
