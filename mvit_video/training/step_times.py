"""Time of each part of a training step, and which part bounds the run."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mvit_video.training.output import print_line

PARTS = ("data", "forward", "backward", "step")
_DATA_BOUND = 0.2  # share of waiting above which faster decoding pays
_BATCHES_IN_FLIGHT = 50


class StepTimes(Callback):
    """Share of time that an epoch spends on waiting for data, forward, backward and the optimiser's step.

    On a GPU the last three come from events of the device, which are read later, without waiting for it. A line at the
    end says what bounded the run.
    """

    def __init__(self) -> None:
        self._epoch: Counter[str] = Counter()
        self._run: Counter[str] = Counter()
        self._events: list[list[torch.cuda.Event]] = []
        self._last = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; an epoch that is resumed has no start."""
        self._epoch.clear()
        self._last = time.perf_counter()

    on_train_epoch_start = on_train_start

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """End the wait for data."""
        self._take("data")
        if pl_module.device.type == "cuda":
            self._events.append([])
        self._mark(pl_module, None)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """End the forward pass."""
        self._mark(pl_module, "forward")

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the backward pass."""
        self._mark(pl_module, "backward")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the step."""
        self._mark(pl_module, "step")
        self._last = time.perf_counter()
        if len(self._events) >= _BATCHES_IN_FLIGHT:
            self._read_events()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ignore the time of a validation within an epoch."""
        self._last = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the shares."""
        self._read_events()
        self._run.update(self._epoch)
        for part, share in _shares(self._epoch).items():
            pl_module.log(f"time/{part}", share)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line."""
        if trainer.is_global_zero and self._run.total():
            print_line(what_bounds(_shares(self._run), pl_module.device.type))

    def _take(self, part: str) -> None:
        now = time.perf_counter()
        self._epoch[part] += now - self._last  # type: ignore[assignment]
        self._last = now

    def _mark(self, pl_module: LightningModule, part: str | None) -> None:
        """End a part of the step, on the device that computes it."""
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
    """Return where the time went and what would make the run faster.

    Args:
        shares: of each of `PARTS`.
        device: type of the device that trained, `cpu` or `cuda`.
    """
    line = "time: " + ", ".join(f"{part} {share:.0%}" for part, share in shares.items())
    part = "decoding" if shares["data"] > 0.5 else "the GPU" if device == "cuda" else "the CPU"
    line += f"; bounded by {part}"
    if shares["data"] > _DATA_BOUND:
        line += f"\nup to {shares['data']:.0%} can be saved by more data.loading.num_workers or `mvit-video prepare`"
    return line


def _shares(seconds: Counter[str]) -> dict[str, float]:
    total = sum(seconds.values()) or 1.0
    return {part: seconds[part] / total for part in PARTS}
