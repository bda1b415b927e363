"""Callbacks that stop a run at a non-finite loss, or at too many unreadable videos."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from mvit_video.data.dataset import ClipBatch
from mvit_video.jobs.distributed import all_gather_objects
from mvit_video.training.checkpoint_io import why_unwritten
from mvit_video.training.failures import split_of
from mvit_video.training.stopping import STEPS_PER_DECISION
from mvit_video.types import TrainingError

_MAX_NAMED = 16  # videos in a message


class StopAtNonFinite(Callback):
    """Stop of a run before the first optimiser step with a non-finite (NaN or inf) loss or gradient.

    With float16 an infinite gradient is no error: the scaler skips that step and lowers its scale. The check waits for
    the device once per step.

    Args:
        path: checkpoint of the state before that step, which a resumed run repeats; None for none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._losses: list[Tensor] = []  # of the batches that make this step
        self._videos: list[Tensor] = []
        self._first_batch: int | None = None  # of the step, while its checkpoint is written

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: ClipBatch, batch_idx: int
    ) -> None:
        """Keep the rows of the batch."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._losses, self._videos = [], []
        self._videos.append(batch.video)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Keep the loss, without waiting for the device."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Check the loss and the gradient of the step.

        Raises:
            TrainingError: one of them is non-finite.
        """
        losses = torch.stack(self._losses)
        finite = losses.isfinite().all()
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            finite = finite & (norm.full_tensor() if hasattr(norm, "full_tensor") else norm).isfinite()  # type: ignore
        if trainer.world_size > 1:
            finite = trainer.strategy.reduce(finite.int(), reduce_op="min").bool()
        if not finite:
            self._stop(trainer, losses)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Move the position in the epoch back to before the step that is not taken."""
        if self._first_batch is None:
            return
        fit_loop = checkpoint["loops"]["fit_loop"]
        progress = fit_loop["epoch_loop.batch_progress"]
        ahead = progress["current"]["ready"] - self._first_batch
        for position in ("current", "total"):
            first = progress[position]["ready"] - ahead
            progress[position] = dict.fromkeys(("ready", "started", "processed", "completed"), first)
        for loader in fit_loop["state_dict"].get("combined_loader", []):
            loader.update(epoch=trainer.current_epoch, num_batches=self._first_batch)

    def _stop(self, trainer: Trainer, losses: Tensor) -> None:
        bad = ~losses.isfinite()
        shares = all_gather_objects((losses[bad][:1].tolist(), _paths(trainer, self._videos, bad)))
        if not any(values for values, _ in shares):  # only the gradient: any video may be the cause
            shares = all_gather_objects(([], _paths(trainer, self._videos, torch.ones_like(bad))))
        values = [value for share, _ in shares for value in share]
        number = f"the loss is {values[0]}" if values else "the loss is finite but its gradient is not"
        where = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step + 1}"
        videos = _listed([path for _, paths in shares for path in paths])
        saved = "; no checkpoint was written"
        if self.path is not None:
            self._first_batch = trainer.fit_loop.epoch_loop.batch_idx + 1 - len(losses)
            trainer.save_checkpoint(self.path, weights_only=False)
            self._first_batch = None
            if why_unwritten(trainer, self.path) is None:
                saved = f"; {self.path} holds the state before that step"
        raise TrainingError(
            f"{where}: {number}; videos: {videos}{saved}; look at the videos, or lower the learning rate"
        )


class StopAtFailureRate(Callback):
    """Stop of a run that skips too many videos of an epoch or a validation.

    Training is checked within the epoch too, once `MIN_VIDEOS` were tried.

    Args:
        highest: share of skipped videos that is allowed.
    """

    MIN_VIDEOS = 100

    def __init__(self, highest: float) -> None:
        self.highest = highest
        self._num_tried: Counter[str] = Counter()  # by split
        self._failures: defaultdict[str, list[str]] = defaultdict(list)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the count of the split."""
        self._num_tried[split_of(trainer)], self._failures[split_of(trainer)] = 0, []

    on_validation_start = on_train_epoch_start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int
    ) -> None:
        """Count, and now and then check over all processes."""
        self.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if batch_idx % STEPS_PER_DECISION == 0:
            self._check(trainer, self.MIN_VIDEOS)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count."""
        split = split_of(trainer)
        self._num_tried[split] += len(batch.decodes) + len(batch.failures)
        table = _data(trainer).tables[split]
        self._failures[split] += [f"{table.path(one.video)}: {one.reason}" for one in batch.failures]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check over all processes."""
        self._check(trainer, 1)

    on_validation_end = on_train_epoch_end

    def _check(self, trainer: Trainer, least: int) -> None:
        split = split_of(trainer)
        if trainer.sanity_checking:  # too few videos
            return
        counts = torch.tensor([self._num_tried[split], len(self._failures[split])], device=trainer.strategy.root_device)
        if trainer.world_size > 1:
            counts = trainer.strategy.reduce(counts, reduce_op="sum")
        num_tried, num_failed = counts.tolist()
        if num_tried < least or num_failed <= self.highest * num_tried:
            return
        first = [failure for share in all_gather_objects(self._failures[split][:3]) for failure in share][:3]
        raise TrainingError(
            f"{num_failed} of {num_tried} videos of data.{split} could not be read in epoch "
            f"{trainer.current_epoch + 1}, more than data.loading.max_failure_rate={self.highest:g}; "
            f"first {'; '.join(first)}"
        )


def _data(trainer: Trainer) -> Any:
    return trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]


def _paths(trainer: Trainer, videos: list[Tensor], wanted: Tensor) -> list[str]:
    """Return the paths of the videos of the wanted batches."""
    rows = [
        row for batch, is_wanted in zip(videos, wanted.tolist(), strict=True) if is_wanted for row in batch.tolist()
    ]
    return [_data(trainer).tables["train"].path(row) for row in dict.fromkeys(rows)]


def _listed(paths: list[str]) -> str:
    more = len(paths) - _MAX_NAMED
    return ", ".join(paths[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
