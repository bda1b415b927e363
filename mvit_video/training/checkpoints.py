"""Checkpoints: what is kept of a run, and how an interrupted run is left so that it can continue exactly."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mvit_video.types import CheckpointError

STEPS_PER_DECISION = 10  # of several processes, which have to wait for each other and for the device


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

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint of a run, without running anything it contains, whatever `weights_only` says.

        Raises:
            CheckpointError: the file cannot be read, is cut off, is no such checkpoint, or needs code to be loaded.
        """
        try:
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
        except pickle.UnpicklingError as error:
            code = re.search(r"GLOBAL ([\w.]+)", str(error))
            if code is None:
                raise CheckpointError(f"{path}: truncated or not a checkpoint") from error
            raise CheckpointError(f"{path}: refused, since loading it would run code ({code[1]})") from error
        except Exception as error:  # damaged bytes can fail in any way
            raise CheckpointError(f"{path}: truncated or not a checkpoint") from error
        if not isinstance(checkpoint, dict) or not {"state_dict", "pytorch-lightning_version"} <= checkpoint.keys():
            raise CheckpointError(f"{path}: not a checkpoint of a run; expected the last.ckpt or best.ckpt of one")
        return checkpoint


def last_checkpoint() -> ModelCheckpoint:
    """Keeps `last.ckpt`, written after every epoch.

    Not `save_last` of the best one: that is written only when the best one is.
    """
    return ModelCheckpoint(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)


class BestCheckpoint(ModelCheckpoint):
    """Keeps `best.ckpt`, of the highest `val/top1`; a continued run begins with a copy of the one it goes on from.

    Lightning forgets the best score when the folder has changed, and takes the first one it meets.
    """

    def __init__(self) -> None:
        super().__init__(filename="best", monitor="val/top1", mode="max", enable_version_counter=False)
        self._speaks = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remembers which process copies and warns."""
        super().setup(trainer, pl_module, stage)
        self._speaks = trainer.is_global_zero

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over score and file; a file that is gone is not compared with."""
        previous, path = Path(state_dict["best_model_path"]), Path(str(self.dirpath)) / "best.ckpt"
        if state_dict["best_model_path"] and previous.parent != path.parent:
            if previous.is_file():
                score = state_dict["best_model_score"]
                state_dict = state_dict | {
                    "dirpath": self.dirpath, "best_model_path": str(path), "best_k_models": {str(path): score},
                    "kth_best_model_path": str(path), "kth_value": score,
                }  # fmt: skip
                if self._speaks:
                    _copy_whole(previous, path)
            elif self._speaks:
                text = f"{previous} is gone: the best checkpoint is chosen from the epochs to come"
                warnings.warn(text, stacklevel=2)
        super().load_state_dict(state_dict)


def _copy_whole(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        shutil.copyfile(source, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


class StopBetweenSteps(Callback):
    """Turns Ctrl-C and SIGTERM into a stop between two optimiser steps, with a `last.ckpt` that continues exactly.

    A second Ctrl-C stops at once and leaves the `last.ckpt` of the last epoch in place. During validation a single
    process stops after the batch, and validates from the start when continued; several finish it, since they need
    not have the same number of batches.

    Attributes:
        signum: the signal that was heard, by any of the processes; 0 for none.
        saved: whether `path` was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved = False
        self.signum = 0
        self._at_once = False
        self._speaks = True
        self._previous_handlers: dict[int, Any] = {}
        self._process = os.getpid()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes over Ctrl-C before the data loaders fork: their workers inherit a handler that does nothing."""
        self._speaks = trainer.is_global_zero
        if stage == "fit":
            self._take(signal.SIGINT)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes over SIGTERM from Lightning, which answers it with a collective in the middle of a step."""
        self._take(signal.SIGTERM)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives the signals back."""
        self._release(signal.SIGINT, signal.SIGTERM)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops, except in the middle of an accumulated batch, and before a validation that would be lost."""
        step, accumulated = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        if accumulated or trainer.is_last_batch:
            return
        if trainer.world_size == 1 or step % STEPS_PER_DECISION == 1:
            self._stop_if_requested(trainer)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Stops, if no other process has to be asked."""
        if trainer.world_size == 1:
            self._stop_if_requested(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops."""
        self._stop_if_requested(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves the run if it was stopped, not if it failed."""
        self._release(signal.SIGINT)
        stopped = isinstance(exception, (KeyboardInterrupt, SIGTERMException)) and not self._at_once
        if stopped and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and trainer.global_step:
            trainer.save_checkpoint(self.path, weights_only=False)
            self.saved = True
        self._release(signal.SIGTERM)  # `timeout` sends it twice: the second must not meet the save

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Marks a validation that was cut off as one that has to start again."""
        if trainer.validating:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            nothing = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
            # Lightning reads "one batch started, none processed" as a validation to be taken up again.
            progress.update(
                total={**nothing, "ready": 1, "started": 1}, current=nothing, is_last_batch=False
            )  # fmt: skip

    def _take(self, signum: int) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous_handlers[signum] = signal.signal(signum, self._on_signal)

    def _release(self, *signums: int) -> None:
        for signum in signums:
            if signum in self._previous_handlers:
                signal.signal(signum, self._previous_handlers.pop(signum))

    def _on_signal(self, signum: int, frame: Any) -> None:
        if os.getpid() != self._process:
            return
        if self.signum and signum == signal.SIGINT:
            self._at_once = True
            raise KeyboardInterrupt
        if self._speaks and not self.signum:
            print("\nstopping after this step (Ctrl-C again: at once)", file=sys.stderr)
        self.signum = signum

    def _stop_if_requested(self, trainer: Trainer) -> None:
        if trainer.world_size > 1:  # all processes stop after the same step, or the others wait for ever
            heard = torch.tensor(self.signum, device=trainer.strategy.root_device)
            self.signum = int(trainer.strategy.reduce(heard, reduce_op="max"))
        if self.signum:
            raise KeyboardInterrupt
