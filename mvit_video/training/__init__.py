"""Training: the Lightning task, its schedule, and the callbacks around it."""

from mvit_video.training.callbacks import EpochLine, ProgressBar, RunRecord, StepSeed, Throughput
from mvit_video.training.checkpoints import AtomicCheckpointIO, BestCheckpoint, StopBetweenSteps, last_checkpoint
from mvit_video.training.failures import FailureList
from mvit_video.training.initial import InitFrom
from mvit_video.training.schedule import Schedule
from mvit_video.training.task import Task

__all__ = [
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "EpochLine",
    "FailureList",
    "InitFrom",
    "ProgressBar",
    "RunRecord",
    "Schedule",
    "StepSeed",
    "StopBetweenSteps",
    "Task",
    "Throughput",
    "last_checkpoint",
]
