"""The learning rate over a run: linear warm-up, then half a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mvit_video.types import ConfigError


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then half a cosine, as factors of the optimiser's learning rate.

    The learning rate changes at every optimiser step and depends on the (fractional) epoch alone: a resumed run has the
    same rate at the same epoch, even if an epoch has another number of batches. The defaults are the published recipe
    for Kinetics: 1.6e-5 to 1.6e-3 in 30 epochs, then down to 1.6e-5 at the end.

    Attributes:
        warmup_epochs: length of the warm-up; the cosine covers the rest of the run.
        start_factor: factor before the first step.
        end_factor: factor after the last step.
        reference_clips: clips per optimiser step, over all devices, that the optimiser's learning rate is meant for; a
            run with another number scales the rate in proportion, and logs it. None does not scale it.
    """

    warmup_epochs: float = 30.0
    start_factor: float = 0.01
    end_factor: float = 0.01
    reference_clips: int | None = None

    def __post_init__(self) -> None:
        if not self.warmup_epochs >= 0:
            raise ConfigError(f"model.schedule.warmup_epochs must be at least 0, got {self.warmup_epochs}")
        for name in ("start_factor", "end_factor"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"model.schedule.{name} is a fraction of the learning rate, 0 to 1, got {value}")
        if self.reference_clips is not None and self.reference_clips < 1:
            raise ConfigError(f"model.schedule.reference_clips must be at least 1, got {self.reference_clips}")

    def factor(self, epoch: float, max_epochs: float) -> float:
        """Return the learning rate at a point of the run, as a factor of the optimiser's.

        Args:
            epoch: epochs done, with their fraction.
            max_epochs: epochs of the run.

        Source: MViT (arXiv:2104.11227) appendix; SlowFast `lr_policy.py` @ 287ec00 with `COSINE_AFTER_WARMUP`
        (tests/training/test_schedule.py).
        """
        if epoch < self.warmup_epochs:
            return self.start_factor + (1 - self.start_factor) * epoch / self.warmup_epochs
        if epoch >= max_epochs:
            return self.end_factor
        progress = (epoch - self.warmup_epochs) / (max_epochs - self.warmup_epochs)
        return self.end_factor + (1 - self.end_factor) * (1 + math.cos(math.pi * progress)) / 2


class RunSchedule:
    """Schedule of one run, whose length is known when training starts."""

    def __init__(self, schedule: Schedule, optimizer: Optimizer) -> None:
        self.schedule = schedule
        self._trainer: Trainer | None = None
        self._max_epochs = math.inf
        self._settings: list[dict[str, Any]] = [
            {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
        ]
        # A closure: LambdaLR would save the attributes of a callable object in the checkpoint and restore them.
        # It ignores the step, since the number of steps in an epoch may have changed since the checkpoint.
        self.scheduler = LambdaLR(optimizer, lambda _: self._factor())

    def _factor(self) -> float:
        epoch = 0.0 if self._trainer is None else epochs_over(self._trainer)
        return self.schedule.factor(epoch, self._max_epochs)

    def begin(self, trainer: Trainer) -> None:
        """Set the length of the run, and replace the optimiser settings of a checkpoint by those of the config.

        Not earlier: to know the length, Lightning would set up the loaders before a checkpoint restores the position in
        the epoch.

        Raises:
            ConfigError: the run has no end, or the number of clips in a step is unknown.
        """
        max_epochs = trainer.max_epochs
        self._max_epochs = math.inf if max_epochs is None or max_epochs < 0 else float(max_epochs)
        if trainer.max_steps >= 0:
            steps_left = trainer.max_steps - trainer.global_step
            self._max_epochs = min(self._max_epochs, epochs_over(trainer) + steps_left / steps_per_epoch(trainer))
        if math.isinf(self._max_epochs):
            raise ConfigError("trainer.max_epochs=-1 needs trainer.max_steps: the schedule ends with the run")
        self._trainer = trainer
        if self.schedule.warmup_epochs >= self._max_epochs:
            rank_zero_warn(
                f"model.schedule.warmup_epochs={self.schedule.warmup_epochs:g} but the run has {self._max_epochs:g} "
                "epochs: it ends before the learning rate reaches its peak"
            )
        scale = self._scale(trainer)
        self.scheduler.base_lrs = [settings["lr"] * scale for settings in self._settings]
        factor = self._factor()
        groups = self.scheduler.optimizer.param_groups
        for group, settings, lr in zip(groups, self._settings, self.scheduler.base_lrs, strict=True):
            group.update(settings, initial_lr=lr, lr=lr * factor)

    def _scale(self, trainer: Trainer) -> float:
        """Return the clips per step of this run divided by `reference_clips`."""
        if self.schedule.reference_clips is None:
            return 1.0
        clips_per_batch = getattr(trainer.datamodule, "clips_per_batch", None)  # pyright: ignore
        if clips_per_batch is None:
            raise ConfigError("model.schedule.reference_clips needs a data module with `clips_per_batch`")
        clips = clips_per_batch * trainer.world_size * trainer.accumulate_grad_batches
        scale = clips / self.schedule.reference_clips
        peak = max(settings["lr"] for settings in self._settings)
        rank_zero_info(
            f"peak learning rate {peak * scale:.3g}: {peak:.3g} x {clips} clips per step ({clips_per_batch} in a batch "
            f"x {trainer.world_size} devices x {trainer.accumulate_grad_batches} batches) / "
            f"{self.schedule.reference_clips} of model.schedule.reference_clips"
        )
        return scale


def epochs_over(trainer: Trainer) -> float:
    """Return the epochs of training done, with the share of the optimiser steps of the current one."""
    progress, num_steps = trainer.fit_loop.epoch_progress.current, steps_per_epoch(trainer)
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    num_batches = batches.processed
    if progress.ready == progress.completed:  # between two epochs: these are the batches of the last one
        num_batches = 0
    return (progress.completed * num_steps + math.ceil(num_batches / trainer.accumulate_grad_batches)) / num_steps


def steps_per_epoch(trainer: Trainer) -> int:
    """Return the optimiser steps of an epoch; the last one may have fewer batches than the others."""
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def limit_to_epoch(trainer: Trainer) -> None:
    """Limit the batches of a step, with a warning, and the steps between two logs to those of an epoch."""
    num_batches = int(trainer.num_training_batches)
    if trainer.accumulate_grad_batches > num_batches:
        rank_zero_warn(
            f"trainer.accumulate_grad_batches={trainer.accumulate_grad_batches} is more than the {num_batches} batches "
            f"of an epoch: a step has {num_batches}"
        )
        trainer.accumulate_grad_batches = num_batches
    settings: Any = trainer  # Lightning adds the attribute after construction
    settings.log_every_n_steps = min(settings.log_every_n_steps, steps_per_epoch(trainer))
