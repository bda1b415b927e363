"""What a test found out, and the numbers that follow from it.

Letters: V videos, K views of a video, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mvit_video.data.annotations import VideoTable
from mvit_video.evaluation.scores import VideoViews, describe
from mvit_video.metrics import accuracy
from mvit_video.metrics.accuracy import Ensemble, combine
from mvit_video.metrics.by_views import accuracy_by_views
from mvit_video.metrics.calibration import apply_temperature, calibration_error, reliability
from mvit_video.metrics.intervals import LEVEL, METHOD, share_interval
from mvit_video.types import ClipSpec, ViewSpec


class Decoding(NamedTuple):
    """How a video was read.

    Attributes:
        backend: library that decoded.
        damaged: whether it concealed errors; None where it does not tell.
        too_short: whether the video has less than one clip, so that frames were repeated.
    """

    backend: str
    damaged: bool | None
    too_short: bool = False


@dataclass(frozen=True)
class Setting:
    """How the videos were looked at.

    Attributes:
        protocol: whose rules give the starts of the clips, the size of the frames and the crops.
        short_side: pixels of the shorter edge before cropping.
        corruption: what was done to each clip, "none" or such as "blur 3".
        ensemble: how the views of a video become one.
    """

    protocol: str
    clip: ClipSpec
    sampling: str
    views: ViewSpec
    crop_size: int
    short_side: int
    frame_order: str
    corruption: str
    ensemble: Ensemble

    def record(self) -> dict[str, Any]:
        """The setting as flat columns."""
        return {
            "protocol": self.protocol,
            "views": describe(self.views),
            "num_clips": self.views.num_clips,
            "num_crops": self.views.num_crops,
            **asdict(self.clip),
            "sampling": self.sampling,
            "crop_size": self.crop_size,
            "short_side": self.short_side,
            "frame_order": self.frame_order,
            "corruption": self.corruption,
            "ensemble": self.ensemble,
        }


class Temperature(NamedTuple):
    """A temperature and the predictions that it was fitted on."""

    value: float
    fitted_on: str
    num_videos: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The videos of a test.

    Attributes:
        views: the scored videos; the others are in `failures` or `left_out`.
        failures: why there is no score, by row of the table.
        left_out: rows that a limit of the trainer left out.
        decodings: how videos were read, by row.
    """

    table: VideoTable
    setting: Setting
    views: VideoViews
    failures: Mapping[int, str] = field(default_factory=dict)
    left_out: frozenset[int] = frozenset()
    decodings: Mapping[int, Decoding] = field(default_factory=dict)
    probabilities: Tensor = field(init=False)
    label: Tensor = field(init=False)

    def __post_init__(self) -> None:
        multi_label = self.table.is_multilabel
        combined = combine(self.views.scores, self.setting.ensemble, multi_label=multi_label)
        object.__setattr__(self, "probabilities", combined)
        object.__setattr__(self, "label", _labels(self.table, self.views.video, combined.shape[1]))

    @property
    def prediction(self) -> Tensor:
        """`(V,)` most probable class, the first of several that are equal."""
        return self.probabilities.argmax(dim=1)

    @property
    def known(self) -> Tensor:
        """`(V,)` whether the label is known."""
        return (self.label >= 0) if self.label.ndim == 1 else torch.ones(len(self.label), dtype=torch.bool)


def _labels(table: VideoTable, video: Tensor, num_classes: int) -> Tensor:
    if table.multi_labels is None:
        return torch.from_numpy(table.labels[video.numpy()])
    labels = torch.zeros(len(video), num_classes, dtype=torch.uint8)
    for i, row in enumerate(video.tolist()):
        labels[i, table.label_of(row)] = 1
    return labels


def scalars(evaluation: Evaluation) -> dict[str, float]:
    """The headline numbers over the videos with a label; NaN without any."""
    known = evaluation.known
    probabilities, label = evaluation.probabilities[known], evaluation.label[known]
    if evaluation.table.is_multilabel:
        return {"mAP": float(accuracy.mean_known(accuracy.class_precision(probabilities, label)))}
    ranks = accuracy.label_ranks(probabilities, label)
    confused = accuracy.confusion(probabilities.argmax(dim=1), label, probabilities.shape[1])
    return {
        "top1": float(accuracy.share_within(ranks, 1)),
        "top5": float(accuracy.share_within(ranks, 5)),
        "mean_class": float(accuracy.mean_known(accuracy.class_accuracy(confused))),
        **_calibration(probabilities, label),
    }


def _calibration(probabilities: Tensor, label: Tensor) -> dict[str, float]:
    return {
        "nll": float(accuracy.negative_log_likelihood(probabilities, label)),
        "brier": float(accuracy.brier_score(probabilities, label)),
        "ece": calibration_error(reliability(probabilities, label)),
    }


def counts(evaluation: Evaluation) -> dict[str, int]:
    """What became of the videos that the annotations name."""
    damaged = sum(bool(decoding.damaged) for decoding in evaluation.decodings.values())
    return {
        "expected": len(evaluation.table) + evaluation.table.num_missing,
        "scored": len(evaluation.views.video),
        "failed": len(evaluation.failures),
        "missing": evaluation.table.num_missing,
        "left_out": len(evaluation.left_out),
        "without_label": int((~evaluation.known).sum()),
        "damaged": damaged,
        "too_short": sum(decoding.too_short for decoding in evaluation.decodings.values()),
        "repeated_views": evaluation.views.num_repeated,
    }


def record(evaluation: Evaluation, temperature: Temperature | None = None) -> dict[str, Any]:
    """Everything that `accuracy.json` says; a number that nothing gives is None."""
    known = evaluation.known
    scores, label = evaluation.views.select(known).scores, evaluation.label[known]
    probabilities = evaluation.probabilities[known]
    written: dict[str, Any] = {
        "setting": evaluation.setting.record(),
        "videos": counts(evaluation),
        "metrics": scalars(evaluation),
    }
    if not evaluation.table.is_multilabel:
        ranks = accuracy.label_ranks(probabilities, label)
        written["intervals"] = intervals(ranks)
        written["if_failed_are_wrong"] = if_failed_are_wrong(evaluation, ranks)
        written["reliability"] = [one._asdict() for one in reliability(probabilities, label)]
    if temperature is not None:
        scaled = apply_temperature(probabilities, temperature.value)
        written["temperature"] = {**temperature._asdict(), "metrics": _calibration(scaled, label)}
    written["by_views"] = accuracy_by_views(scores, label, evaluation.setting.views, evaluation.setting.ensemble)
    written["classes"] = classes(evaluation)
    return _without_nan(written)


def intervals(ranks: Tensor) -> dict[str, Any]:
    """Intervals of top1 and top5, and what they are."""
    about = {"level": LEVEL, "method": METHOD}
    if not len(ranks):
        return about
    bounds = {f"top{k}": share_interval(int((ranks < k).sum()), len(ranks))._asdict() for k in (1, 5)}
    return about | bounds


def if_failed_are_wrong(evaluation: Evaluation, ranks: Tensor) -> dict[str, float] | None:
    """Accuracy with every failed video of a known label counted as wrong; None when none failed."""
    failed = np.fromiter(evaluation.failures, np.int64, len(evaluation.failures))
    num_failed = int((evaluation.table.labels[failed] >= 0).sum())
    if not num_failed:
        return None
    total = len(ranks) + num_failed
    return {f"top{k}": 100 * int((ranks < k).sum()) / total for k in (1, 5)}


def classes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Name, number of videos and accuracy, or average precision, of each class."""
    known = evaluation.known
    probabilities, label = evaluation.probabilities[known], evaluation.label[known]
    num_classes = probabilities.shape[1]
    if evaluation.table.is_multilabel:
        name, values = "average_precision", accuracy.class_precision(probabilities, label)
        totals = label.sum(dim=0)
    else:
        confused = accuracy.confusion(probabilities.argmax(dim=1), label, num_classes)
        name, values, totals = "accuracy", accuracy.class_accuracy(confused), confused.sum(dim=1)
    names = evaluation.table.class_names or ()
    return [
        {"class": c, "name": names[c] if c < len(names) else None, "num_videos": int(totals[c]), name: float(values[c])}
        for c in range(num_classes)
    ]


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
