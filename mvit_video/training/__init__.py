"""Training: the Lightning task, its schedule, and the callbacks around it."""

from mvit_video.training.callbacks import EpochLine, ProgressBar, RunRecord, StepSeed, Throughput
from mvit_video.training.checkpoint_io import AtomicCheckpointIO
from mvit_video.training.checkpoints import BestCheckpoint, LastCheckpoint
from mvit_video.training.curves import Curves
from mvit_video.training.failures import DecodingRecord, FailureList
from mvit_video.training.guards import StopAtFailureRate, StopAtNonFinite
from mvit_video.training.initial import InitFrom
from mvit_video.training.output import EventLogger, MetricsLogger
from mvit_video.training.plan import RunPlan, run_loggers
from mvit_video.training.schedule import Schedule
from mvit_video.training.step_times import StepTimes
from mvit_video.training.stopping import TERMINATION_SIGNALS, StopBetweenSteps
from mvit_video.training.task import Task

__all__ = [
    "TERMINATION_SIGNALS",
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "Curves",
    "DecodingRecord",
    "EpochLine",
    "EventLogger",
    "FailureList",
    "InitFrom",
    "LastCheckpoint",
    "MetricsLogger",
    "ProgressBar",
    "RunPlan",
    "RunRecord",
    "Schedule",
    "StepSeed",
    "StepTimes",
    "StopAtFailureRate",
    "StopAtNonFinite",
    "StopBetweenSteps",
    "Task",
    "Throughput",
    "run_loggers",
]
