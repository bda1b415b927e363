"""The plan of a run: its callbacks and loggers, in the order in which Lightning calls them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from mvit_video.runs.folder import checkpoint_path
from mvit_video.training.callbacks import EpochLine, RunRecord, StepSeed, Throughput
from mvit_video.training.checkpoints import BestCheckpoint, LastCheckpoint
from mvit_video.training.curves import Curves
from mvit_video.training.failures import DecodingRecord, FailureList
from mvit_video.training.guards import StopAtFailureRate, StopAtNonFinite
from mvit_video.training.output import EventLogger, MetricsLogger
from mvit_video.training.step_times import StepTimes
from mvit_video.training.stopping import StopBetweenSteps


@dataclass(frozen=True)
class RunPlan:
    """Callbacks of a run.

    Attributes:
        folder: run folder; None writes nothing.
        seed: seed of `seed_everything`; None where nothing is seeded.
        checkpoint: file that the run resumes from or scores.
    """

    folder: Path | None
    seed: int | None
    checkpoint: str | None

    def record(self) -> list[Callback]:
        """Return the callbacks of every run."""
        return [] if self.folder is None else [RunRecord(self.folder, seed=self.seed, checkpoint=self.checkpoint)]

    def score(self, evaluation: Callback | None = None) -> list[Callback]:
        """Return the callbacks of a validation, or of a test, whose `evaluation` lists the failures."""
        callbacks = self.record()
        if evaluation is not None:
            callbacks.append(evaluation)
        if self.folder is not None:
            callbacks.append(DecodingRecord(self.folder))
            if evaluation is None:
                callbacks.append(FailureList(self.folder))
        return callbacks

    def fit(
        self,
        stopper: StopBetweenSteps,
        *,
        max_failure_rate: float,
        checkpoint_every_n_steps: int | None = None,
        keep_checkpoints: bool = True,
    ) -> list[Callback]:
        """Return the callbacks of a training.

        Args:
            stopper: saves `last.ckpt` when the run is asked to stop.
            max_failure_rate: share of skipped videos above which training stops.
            checkpoint_every_n_steps: optimiser steps between two checkpoints within an epoch; None saves after epochs.
        """
        folder, last_good = self.folder, None
        callbacks = [*self.score(), Throughput(), StepTimes(), EpochLine(folder), stopper]
        if folder is not None:
            callbacks.append(Curves(folder))
            last_good = checkpoint_path(folder, "last_good")
        callbacks += [StopAtFailureRate(max_failure_rate), StopAtNonFinite(last_good)]
        if self.seed is not None:
            callbacks.append(StepSeed(self.seed))
        if keep_checkpoints:
            callbacks += [LastCheckpoint(checkpoint_every_n_steps), BestCheckpoint()]
        return callbacks


def run_loggers(folder: Path) -> list[Logger]:
    """Return the loggers that write `metrics.csv` and TensorBoard's events into the folder of a run."""
    place: dict[str, Any] = {"save_dir": folder.parents[1], "name": folder.parent.name, "version": folder.name}
    return [MetricsLogger(**place), EventLogger(**place)]
