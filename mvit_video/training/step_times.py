"""Where the time of training goes, and what bounds it."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mvit_video.training.output import print_line

PARTS = ("data", "forward", "backward", "step")
_DATA_BOUND = 0.2  # share of waiting above which more decoding would pay
_BATCHES_IN_FLIGHT = 50


class StepTimes(Callback):
    """Logs, for each epoch, the share of time spent on waiting for data, forward, backward and the optimiser's step.

    On a GPU the last three are the device's own times, taken by events, so that it is never waited for; the wait for
    data is the program's. A line at the end says what bounded the run.
    """

    def __init__(self) -> None:
        self._epoch: Counter[str] = Counter()
        self._run: Counter[str] = Counter()
        self._events: list[list[torch.cuda.Event]] = []
        self._last = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._epoch.clear()
        self._last = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The batch is there."""
        self._take("data")
        if pl_module.device.type == "cuda":
            self._events.append([])
        self._mark(pl_module, None)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """The loss is there."""
        self._mark(pl_module, "forward")

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The gradients are there."""
        self._mark(pl_module, "backward")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The step is done."""
        self._mark(pl_module, "step")
        self._last = time.perf_counter()
        if len(self._events) >= _BATCHES_IN_FLIGHT:
            self._read_events()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation in the middle of an epoch is nobody's time."""
        self._last = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the shares."""
        self._read_events()
        self._run.update(self._epoch)
        for part, share in _shares(self._epoch).items():
            pl_module.log(f"time/{part}", share)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the line."""
        if trainer.is_global_zero and self._run.total():
            print_line(what_bounds(_shares(self._run), pl_module.device.type))

    def _take(self, part: str) -> None:
        now = time.perf_counter()
        self._epoch[part] += now - self._last  # type: ignore[assignment]
        self._last = now

    def _mark(self, pl_module: LightningModule, part: str | None) -> None:
        """Ends a part of the step on the device that computes it."""
        if pl_module.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._events[-1].append(event)
        elif part is not None:
            self._take(part)

    def _read_events(self) -> None:
        if self._events:
            self._events[-1][-1].synchronize()
        for events in self._events:
            for part, start, end in zip(PARTS[1:], events, events[1:], strict=False):
                self._epoch[part] += start.elapsed_time(end) / 1000  # type: ignore[assignment]
        self._events.clear()


def what_bounds(shares: dict[str, float], device: str) -> str:
    """One line on where the time went.

    Args:
        shares: of each of `PARTS`.
        device: type of the device that trained, `cpu` or `cuda`.
    """
    bound = f"the {'GPU' if device == 'cuda' else 'CPU'}"
    if shares["data"] > _DATA_BOUND:
        bound = "decoding: more data.loading.num_workers, or videos from `mvit-video prepare`, would make it faster"
    return (
        f"time: {shares['data']:.0%} waiting for data, {shares['forward']:.0%} forward, {shares['backward']:.0%} "
        f"backward, {shares['step']:.0%} optimiser; bounded by {bound}"
    )


def _shares(seconds: Counter[str]) -> dict[str, float]:
    total = sum(seconds.values()) or 1.0
    return {part: seconds[part] / total for part in PARTS}
