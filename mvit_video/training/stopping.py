"""Stop of an interrupted run between two steps, from where it resumes exactly."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mvit_video.training.checkpoint_io import why_unwritten

STEPS_PER_DECISION = 10  # of several processes, which wait for each other and for the device
TERMINATION_SIGNALS = (signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM))  # clusters send either


class StopBetweenSteps(Callback):
    """Stop between two optimiser steps at Ctrl-C, SIGTERM or SIGUSR1, with a `last.ckpt` to resume from.

    A second Ctrl-C stops at once and keeps the `last.ckpt` of the last epoch. Within a validation a single process
    stops after the batch, and a resumed run validates again. Several processes finish the validation, since their
    numbers of batches may differ.

    Attributes:
        signum: signal that any of the processes received; 0 for none.
        saved: whether `path` was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved = False
        self.signum = 0
        self._at_once = False
        self._prints = True
        self._previous_handlers: dict[int, Any] = {}
        self._process = os.getpid()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note whether this process prints."""
        self._prints = trainer.is_global_zero

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C before the data loaders fork: their workers inherit a handler that does nothing.

        Not earlier: Lightning has saved the handlers by now, and restores them when the run ends in any way.
        """
        self._take(signal.SIGINT)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C, and the other signals from Lightning.

        It answers them in the middle of a step: with a collective, or under SLURM with a checkpoint and a new job.
        """
        self._take(signal.SIGINT, *TERMINATION_SIGNALS)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget the previous handlers: Lightning has restored the user's."""
        self._previous_handlers.clear()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if asked to, but not within an accumulated batch, nor before a validation that would be lost."""
        step, accumulated = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        if accumulated or trainer.is_last_batch:
            return
        if trainer.world_size == 1 or step % STEPS_PER_DECISION == 1:
            self._stop_if_requested(trainer)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Stop if asked to and there is no other process."""
        if trainer.world_size == 1:
            self._stop_if_requested(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if asked to."""
        self._stop_if_requested(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save the run if it was stopped, not if it failed."""
        self._release(signal.SIGINT)
        stopped = isinstance(exception, (KeyboardInterrupt, SIGTERMException)) and not self._at_once
        if stopped and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and trainer.global_step:
            trainer.save_checkpoint(self.path, weights_only=False)
            self.saved = why_unwritten(trainer, self.path) is None
        self._release(*TERMINATION_SIGNALS)  # `timeout` sends it twice: the second must not interrupt the save

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Mark an interrupted validation as one to start again."""
        if trainer.validating:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            nothing = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
            # Lightning reads "one batch started, none processed" as a validation to resume
            progress.update(
                total={**nothing, "ready": 1, "started": 1}, current=nothing, is_last_batch=False
            )  # fmt: skip

    def _take(self, *signums: int) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in set(signums) - self._previous_handlers.keys():
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
        if self._prints and not self.signum:
            print("\nstopping after this step (Ctrl-C again: at once)", file=sys.stderr)
        self.signum = signum

    def _stop_if_requested(self, trainer: Trainer) -> None:
        if trainer.world_size > 1:  # all processes stop after the same step, or the others wait for ever
            heard = torch.tensor(self.signum, device=trainer.strategy.root_device)
            self.signum = int(trainer.strategy.reduce(heard, reduce_op="max"))
        if self.signum:
            raise KeyboardInterrupt
