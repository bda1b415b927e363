"""Callbacks of a run: random numbers of a step, speed, record, and the lines and bars on the screen."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.progress import TextColumn, TimeRemainingColumn

from mvit_video.runs.record import end_record, write_record
from mvit_video.training.output import print_line


class StepSeed(Callback):
    """Seed of each step, so that dropout and drop path depend on (seed, epoch, batch, process) alone.

    A resumed run draws the same numbers as one that was not stopped, and a checkpoint needs no generator state.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the generators of all devices."""
        entropy = (self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))


class Throughput(Callback):
    """Metric `train/clips_per_second` over all processes, logged every `trainer.log_every_n_steps` batches.

    It is measured over all batches in between, without waiting for the device. Validation and the first batch of an
    epoch, which starts the loader's workers, do not count.
    """

    def __init__(self) -> None:
        self._start: float | None = None
        self._num_clips = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the batches since the last log."""
        self._start = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard the batches since the last log, whose time includes the validation."""
        self._start = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the clips of the batch."""
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
    """Lines for a log file: one before the first epoch, one after each, and some within a long one without a bar.

    Args:
        folder: where the files of the run go; None for nowhere.
        every_seconds: time between two lines within an epoch.
    """

    def __init__(self, folder: Path | None = None, every_seconds: float = 30.0) -> None:
        self.folder, self.every_seconds = folder, every_seconds
        self._is_first, self._is_validated = True, False
        self._last = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; an epoch that is resumed has no start."""
        self._last = time.monotonic()

    on_train_epoch_start = on_train_start

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Print, once, what is trained, where, and where its files go."""
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

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print the position in the epoch and the loss, now and then, where no progress bar shows them."""
        is_shown = trainer.progress_bar_callback is not None or not trainer.is_global_zero or trainer.is_last_batch
        if is_shown or time.monotonic() - self._last < self.every_seconds:
            return
        self._last = time.monotonic()
        where = f"batch {batch_idx + 1}/{trainer.num_training_batches}"
        parts = _in_words(trainer.callback_metrics, ("train/loss", "loss {:.4f}"), _CLIPS_PER_SECOND)
        print_line(" ".join([f"epoch {_epoch(trainer)}, {where}: ", *parts]))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that this epoch has been validated."""
        self._is_validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the mean loss and the metrics of the epoch."""
        values = dict(trainer.callback_metrics)
        if not self._is_validated:  # those of an earlier validation
            values = {name: value for name, value in values.items() if not name.startswith("val/")}
        self._is_validated = False
        parts = _in_words(
            values, ("train/loss_epoch", "loss {:.4f}"), ("train/top1", "top1 {:.2f}"),
            ("val/loss", "| val loss {:.4f}"), ("val/top1", "top1 {:.2f}"), ("val/top5", "top5 {:.2f}"),
            ("val/mAP", "mAP {:.2f}"), _CLIPS_PER_SECOND,
        )  # fmt: skip
        if trainer.is_global_zero:
            print_line(" ".join([f"epoch {_epoch(trainer)}: ", *parts]))


_CLIPS_PER_SECOND = ("train/clips_per_second", "| {:.1f} clips/s")


def _in_words(values: Mapping[str, Any], *forms: tuple[str, str]) -> list[str]:
    return [form.format(float(values[name])) for name, form in forms if name in values]


def _epoch(trainer: Trainer) -> str:
    epochs = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
    return f"{trainer.current_epoch + 1}{epochs}"


class ProgressBar(RichProgressBar):
    """Progress bar with loss, accuracy and clips per second."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the metrics by short names."""
        metrics: Any = super().get_metrics(trainer, pl_module)
        shown = (
            ("train/loss", "loss", ".3f"), ("val/top1", "val top1", ".1f"), ("val/mAP", "val mAP", ".1f"),
            ("train/clips_per_second", "clips/s", ".0f"),
        )  # fmt: skip
        return {name: format(float(metrics[key]), form) for key, name, form in shown if key in metrics}

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Return columns that fit 80 characters beside the metrics."""
        description, bar, batches, *_ = super().configure_columns(trainer)
        bar.bar_width = max(8, min(40, shutil.get_terminal_size().columns - 72))
        return [description, bar, batches, TimeRemainingColumn(), TextColumn("left")]

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Update the bar; end it with the last batch, before the result is printed."""
        super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        if batch_idx + 1 == sum(trainer.num_test_batches):
            self.teardown(trainer, pl_module, "test")

    def _get_train_description(self, current_epoch: int) -> str:
        # Lightning counts from 0, the line after the epoch from 1
        return f"{f'Epoch {current_epoch + 1}/{self.trainer.max_epochs}':{len(self.validation_description)}}"


class RunRecord(Callback):
    """Writer of `run.json`, which with the config makes a number of the run reproducible."""

    def __init__(self, folder: Path, *, seed: int | None, checkpoint: str | None) -> None:
        self.folder = folder
        self.seed = seed
        self.checkpoint = checkpoint

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file before the work begins."""
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

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Record that the run has ended."""
        if trainer.is_global_zero:
            end_record(self.folder, "tested" if stage == "test" else "finished")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Record that the run was stopped or failed."""
        if trainer.is_global_zero:
            stopped = isinstance(exception, (KeyboardInterrupt, SIGTERMException))
            end_record(self.folder, "stopped" if stopped else "failed")


def device_name(device: torch.device) -> str:
    """Return the device as its maker calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"
