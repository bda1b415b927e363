"""The learning rate over a run: linear warm-up, then half a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mvit_video.types import ConfigError


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then half a cosine, as factors of the optimiser's learning rate.

    The learning rate changes at every optimiser step, by the fraction of the epoch that is over. The defaults are
    the published Kinetics recipe: 1.6e-5 to 1.6e-3 in 30 epochs, then down to 1.6e-5 at the last one.

    Attributes:
        warmup_epochs: length of the warm-up; the cosine covers the rest of the run.
        start_factor: factor before the first step.
        end_factor: factor after the last step.
    """

    warmup_epochs: float = 30.0
    start_factor: float = 0.01
    end_factor: float = 0.01

    def __post_init__(self) -> None:
        if not self.warmup_epochs >= 0:
            raise ConfigError(f"model.schedule.warmup_epochs must be at least 0, got {self.warmup_epochs}")
        for name in ("start_factor", "end_factor"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"model.schedule.{name} is a fraction of the learning rate, 0 to 1, got {value}")

    def factor(self, epoch: float, max_epochs: float) -> float:
        """Learning rate at a point of the run, as a factor of the optimiser's.

        Args:
            epoch: epochs that are over, with their fraction.
            max_epochs: epochs of the whole run.

        Source: MViT (arXiv:2104.11227) appendix; SlowFast `lr_policy.py` @ 287ec00 with `COSINE_AFTER_WARMUP`
        (tests/training/test_schedule.py).
        """
        if epoch < self.warmup_epochs:
            return self.start_factor + (1 - self.start_factor) * epoch / self.warmup_epochs
        if epoch >= max_epochs:
            return self.end_factor
        progress = (epoch - self.warmup_epochs) / (max_epochs - self.warmup_epochs)
        return self.end_factor + (1 - self.end_factor) * (1 + math.cos(math.pi * progress)) / 2
