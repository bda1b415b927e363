"""What surrounds training: randomness, speed, the record of the run, and what the user sees."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from mvit_video.runs.record import write_record
from mvit_video.training.output import print_line


class StepSeed(Callback):
    """Makes dropout and drop path of a step a function of (seed, epoch, batch, process) alone.

    A run that was stopped and continued draws the same numbers as one that was not, and no generator state has to
    travel in the checkpoint.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seeds the generators of all devices."""
        entropy = (self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))


class Throughput(Callback):
    """Logs `train/clips_per_second` over all processes, once per `trainer.log_every_n_steps` batches.

    Time is taken over whole windows, so that the device is never waited for; validation and the first batch of an
    epoch, which starts the loader's workers, are left out.
    """

    def __init__(self) -> None:
        self._start: float | None = None
        self._num_clips = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the window of the epoch before."""
        self._start = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the window that validation interrupted."""
        self._start = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the clips of the batch."""
        now = time.perf_counter()
        if self._start is None:
            self._start, self._num_clips = now, 0
            return
        self._num_clips += len(batch.label) * trainer.world_size
        every = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if (batch_idx + 1) % every == 0 or trainer.is_last_batch:
            pl_module.log("train/clips_per_second", self._num_clips / (now - self._start), prog_bar=True)
            self._start, self._num_clips = now, 0


class EpochLine(Callback):
    """Prints a line before the first epoch and one after each: what a log file keeps of a run.

    Args:
        folder: where the run's files go; None for nowhere.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._is_first, self._is_validated = True, False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Prints, once, what is trained, where, and where its files go."""
        if not (self._is_first and trainer.is_global_zero):
            return
        self._is_first = False
        num_parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        processes = f"{trainer.world_size} x " if trainer.world_size > 1 else ""
        device = f"{processes}{device_name(trainer.strategy.root_device)}, {trainer.precision}"
        to = f"; files in {self.folder}" if self.folder is not None else ""
        print_line(
            f"{num_parameters / 1e6:.2f} M parameters, {trainer.num_training_batches} batches per epoch, {device}{to}"
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps that this epoch has been validated."""
        self._is_validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the epoch's mean loss and the metrics, not those of an earlier validation."""
        values = dict(trainer.callback_metrics)
        if not self._is_validated:
            values = {name: value for name, value in values.items() if not name.startswith("val/")}
        self._is_validated = False
        shown = (
            ("train/loss_epoch", "loss {:.4f}"), ("train/top1", "top1 {:.2f}"), ("val/loss", "| val loss {:.4f}"),
            ("val/top1", "top1 {:.2f}"), ("val/top5", "top5 {:.2f}"), ("val/mAP", "mAP {:.2f}"),
            ("train/clips_per_second", "| {:.1f} clips/s"),
        )  # fmt: skip
        parts = [form.format(float(values[name])) for name, form in shown if name in values]
        if trainer.is_global_zero:
            epochs = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
            print_line(" ".join([f"epoch {trainer.current_epoch + 1}{epochs}: ", *parts]))


class ProgressBar(RichProgressBar):
    """Batches, loss, accuracy and clips per second, on a terminal."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The metrics by short names, without the version number, which the run folder shows."""
        metrics = super().get_metrics(trainer, pl_module)
        short = {
            "train/loss": "loss",
            "val/top1": "val top1",
            "val/mAP": "val mAP",
            "train/clips_per_second": "clips/s",
        }
        return {name: metrics[key] for key, name in short.items() if key in metrics}

    def _get_train_description(self, current_epoch: int) -> str:
        # Lightning counts from 0; the line that is printed after the epoch counts from 1.
        return f"{f'Epoch {current_epoch + 1}/{self.trainer.max_epochs}':{len(self.validation_description)}}"


class RunRecord(Callback):
    """Writes `run.json`: what a number from this run needs beside its config to be repeated."""

    def __init__(self, folder: Path, *, seed: int | None, checkpoint: str | None) -> None:
        self.folder = folder
        self.seed = seed
        self.checkpoint = checkpoint

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes the file, before the work begins."""
        if not trainer.is_global_zero:
            return
        write_record(
            self.folder,
            checkpoint=self.checkpoint,
            seed=self.seed,
            precision=str(trainer.precision),
            num_processes=trainer.world_size,
            device=device_name(trainer.strategy.root_device),
        )


def device_name(device: torch.device) -> str:
    """The device as its maker calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"
