"""Training: the Lightning task, its schedule, and the callbacks around it."""

from mvit_video.training.callbacks import EpochLine, ProgressBar, RunRecord, StepSeed, Throughput
from mvit_video.training.checkpoints import AtomicCheckpointIO, StopBetweenSteps, best_checkpoint, last_checkpoint
from mvit_video.training.failures import FailureList
from mvit_video.training.schedule import Schedule
from mvit_video.training.task import Task

__all__ = [
    "AtomicCheckpointIO",
    "EpochLine",
    "FailureList",
    "ProgressBar",
    "RunRecord",
    "Schedule",
    "StepSeed",
    "StopBetweenSteps",
    "Task",
    "Throughput",
    "best_checkpoint",
    "last_checkpoint",
]
