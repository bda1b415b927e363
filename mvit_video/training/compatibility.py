"""Checks that data, net and callbacks fit together, before anything is computed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, cast

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateFinder, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from mvit_video.types import ConfigError


def check_callbacks(trainer: Trainer, logged: Sequence[str] | None) -> None:
    """Refuse callbacks that would fail later, such as after the first epoch.

    Args:
        logged: names of the metrics that the task logs; None where they are unknown.

    Raises:
        ConfigError: a callback needs what this task or this run does not have.
    """
    callbacks: list[Callback] = cast(Any, trainer).callbacks
    logged = None if any(map(_may_log, callbacks)) else logged
    for callback in callbacks:
        if isinstance(callback, LearningRateFinder):
            raise ConfigError(
                "trainer.callbacks: LearningRateFinder needs a model with an attribute lr, the learning rate here is "
                "model.optimizer.init_args.lr: remove the callback, and try several values"
            )
        monitor = getattr(callback, "monitor", None)
        if isinstance(callback, EarlyStopping) and str(monitor).startswith("val/") and not trainer.enable_validation:
            raise ConfigError(
                f"trainer.callbacks: EarlyStopping monitors {monitor}, but this run has no validation: set data.val, "
                "or monitor train/loss_epoch"
            )
        has_monitor = isinstance(callback, (EarlyStopping, ModelCheckpoint)) and monitor is not None
        if has_monitor and logged is not None and monitor not in logged:
            near = difflib.get_close_matches(str(monitor), logged, n=1)
            raise ConfigError(
                f"trainer.callbacks: {type(callback).__name__} monitors {monitor}, which nothing logs; "
                + (f"did you mean {near[0]}?" if near else f"set monitor to one of {', '.join(logged)}")
            )


def _may_log(callback: Callback) -> bool:
    """Return whether a callback may log metrics: one of the user's, or Lightning's monitor of the learning rate."""
    package = type(callback).__module__.partition(".")[0]
    return package not in ("mvit_video", "lightning") or isinstance(callback, LearningRateMonitor)


def check_data_fit_net(data: Any, net: nn.Module, *, multi_label: bool, stage: str) -> None:
    """Compare what a data module yields with what a net takes.

    Raises:
        ConfigError: they differ.
    """
    for key, ours, name in (
        ("data.clip.num_frames", data.clip.num_frames, "num_frames"),
        ("data.input.crop_size", data.input.crop_size, "crop_size"),
    ):
        if ours != getattr(net, name):
            raise ConfigError(
                f"{key}={ours} but model.net.{name}={getattr(net, name)}: set both to the same value in the config"
            )
    has_many = getattr(data, "is_multilabel", False)
    if has_many != multi_label and stage != "predict":
        kind = "any number of labels" if has_many else "one label"
        lists = "" if has_many else ", or write the label of each video as a list, such as [3]"
        raise ConfigError(
            f"model.multi_label={str(multi_label).lower()} but the annotations give {kind} per video: "
            f"set it to {str(has_many).lower()}{lists}"
        )
    num_classes: Any = net.num_classes
    if data.num_classes > num_classes:
        raise ConfigError(
            f"{data.example_of(data.num_classes - 1)} has label {data.num_classes - 1} but model.net.num_classes="
            f"{num_classes}: correct the label or set model.net.num_classes to {data.num_classes}"
        )
    # a test may cover some of the classes; training with a head too wide makes sense for part of a data set only
    if stage == "fit" and data.class_names is not None and data.num_classes < num_classes:
        rank_zero_warn(
            f"the annotations name {data.num_classes} classes but model.net.num_classes={num_classes}: "
            f"set model.net.num_classes to {data.num_classes}"
        )
