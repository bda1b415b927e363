"""Checkpoints: what is kept of a run, and how an interrupted run is left so that it can continue exactly."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that no reader ever meets half a file.

    Lightning writes to the system's folder for temporary files first; from there to another file system it copies,
    and a copy can be cut off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes `checkpoint` to `path` and replaces what was there."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            torch.save(checkpoint, unfinished)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def last_checkpoint() -> ModelCheckpoint:
    """Keeps `last.ckpt`, written after every epoch.

    Not `save_last` of the best one: that is written only when the best one is.
    """
    return ModelCheckpoint(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)


def best_checkpoint() -> ModelCheckpoint:
    """Keeps `best.ckpt`, of the highest `val/top1`."""
    return ModelCheckpoint(filename="best", monitor="val/top1", mode="max", enable_version_counter=False)


class StopBetweenSteps(Callback):
    """Turns Ctrl-C into a stop between two optimiser steps, with a `last.ckpt` from which the run continues exactly.

    A second Ctrl-C stops at once and leaves the `last.ckpt` of the last epoch in place. During validation the run
    stops after the batch, and validates from the start when continued.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved = False
        self._requested = False
        self._at_once = False
        self._speaks = True
        self._previous_handler: Any = None
        self._process = os.getpid()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes over Ctrl-C before the data loaders fork: their workers inherit a handler that does nothing."""
        self._speaks = trainer.is_global_zero
        if stage == "fit" and threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGINT, self._on_ctrl_c)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives Ctrl-C back."""
        self._release()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops, except in the middle of an accumulated batch, and before a validation that would be lost."""
        mid_accumulation = (batch_idx + 1) % trainer.accumulate_grad_batches != 0
        if not (mid_accumulation or trainer.is_last_batch):
            self._stop_if_requested(trainer)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Stops."""
        self._stop_if_requested(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves the run if it was stopped, not if it failed."""
        self._release()
        stopped = isinstance(exception, (KeyboardInterrupt, SIGTERMException)) and not self._at_once
        if stopped and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and trainer.global_step:
            trainer.save_checkpoint(self.path, weights_only=False)
            self.saved = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Marks a validation that was cut off as one that has to start again."""
        if trainer.validating:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            nothing = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
            # Lightning reads "one batch started, none processed" as a validation to be taken up again.
            progress.update(
                total={**nothing, "ready": 1, "started": 1}, current=nothing, is_last_batch=False
            )  # fmt: skip

    def _on_ctrl_c(self, signum: int, frame: Any) -> None:
        if os.getpid() != self._process:
            return
        if self._requested:
            self._at_once = True
            raise KeyboardInterrupt
        self._requested = True
        if self._speaks:
            print("\nstopping after this step (Ctrl-C again: at once)", file=sys.stderr)

    def _stop_if_requested(self, trainer: Trainer) -> None:
        requested = self._requested
        if trainer.world_size > 1:  # all processes stop after the same step, or the others wait for ever
            requested = trainer.strategy.reduce_boolean_decision(requested, all=False)
        if requested:
            raise KeyboardInterrupt

    def _release(self) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None
