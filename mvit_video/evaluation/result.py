"""Result of a test: its videos and their metrics.

Letters: V videos, K views of a video, C classes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from mvit_video.data import VideoTable
from mvit_video.data.clips.views import UniformViews
from mvit_video.data.dataset import Decode
from mvit_video.evaluation.scores import VideoViews
from mvit_video.evaluation.summary import print_summary
from mvit_video.metrics import accuracy, calibration
from mvit_video.metrics.calibration import Bin, reliability
from mvit_video.metrics.intervals import LEVEL, METHOD, share_interval
from mvit_video.metrics.views import Ensemble, accuracy_by_views, describe_views, join_views


class Decoding(NamedTuple):
    """Decoding of a video.

    Attributes:
        backend: library that decoded.
        damaged: whether it concealed errors; None where unknown.
        too_short: whether the video is shorter than a clip, so that frames were repeated.
    """

    backend: str
    damaged: bool | None
    too_short: bool = False

    @classmethod
    def of(cls, decode: Decode) -> Decoding:
        """Return what a loader reports of a video."""
        return cls(decode.backend, decode.damaged, decode.too_short)


@dataclass(frozen=True)
class Setting:
    """Setting of a test.

    Attributes:
        rule: rule of the views of a video.
        ensemble: how the scores of views become one.
    """

    rule: UniformViews
    ensemble: Ensemble

    @classmethod
    def of_table(cls, rule: UniformViews, table: VideoTable, ensemble: Ensemble | None = None) -> Setting:
        """Return the setting; by default the mean over the views, or the maximum of videos with several labels."""
        return cls(rule, ensemble or ("max" if table.is_multilabel else "sum"))

    def record(self) -> dict[str, Any]:
        """Return the setting as flat columns."""
        rule = self.rule
        return {
            "protocol": rule.views.protocol,
            "views": describe_views(rule.views),
            "num_clips": rule.views.num_clips,
            "num_crops": rule.views.num_crops,
            **asdict(rule.clip),
            "crop_size": rule.crop_size,
            "short_side": rule.short_side,
            "frame_order": rule.views.frame_order,
            "corruption": str(rule.views.corruption or "none"),
            "ensemble": self.ensemble,
        }


class Temperature(NamedTuple):
    """A temperature and the predictions of its fit."""

    value: float
    fitted_on: str
    num_videos: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The videos of a test and their metrics, each computed once on first use.

    Attributes:
        views: the scored videos; the others are in `failures` or `left_out`.
        failures: why there is no score, by row of the table.
        left_out: rows excluded by a limit of the trainer.
        decodings: by row.

    Examples:
        >>> result = mv.evaluate("runs/demo/version_0", "data", num_clips=1, num_crops=3)
        >>> print(result)
        Multi-view test
        ...
        >>> result.confusion.shape
        torch.Size([3, 3])
    """

    table: VideoTable
    setting: Setting
    views: VideoViews
    failures: Mapping[int, str] = field(default_factory=dict)
    left_out: frozenset[int] = frozenset()
    decodings: Mapping[int, Decoding] = field(default_factory=dict)

    @classmethod
    def of_views(
        cls,
        table: VideoTable,
        setting: Setting,
        views: VideoViews,
        failures: Mapping[int, str],
        decodings: Mapping[int, Decoding],
        left_out: frozenset[int] = frozenset(),
    ) -> Evaluation:
        """Return the result of all views; a video with a non-finite score has failed.

        Args:
            failures: videos that some process could not read; another one may have.
        """
        seen = set(views.video.tolist())
        failed = {row: reason for row, reason in failures.items() if row not in seen}
        finite = views.scores.sum(dim=(1, 2), dtype=torch.float64).isfinite()
        failed |= dict.fromkeys(views.video[~finite].tolist(), "the model's output is non-finite")
        return cls(table, setting, views.select(finite), failed, left_out, decodings)

    def __str__(self) -> str:
        text = io.StringIO()
        print_summary(self.record(), Console(file=text, width=80))
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        return f"<Evaluation of {len(self.views.video)} videos: {numbers}>"

    @cached_property
    def probabilities(self) -> Tensor:
        """`(V, C)` of the scored videos."""
        return join_views(self.views.scores, self.setting.ensemble, multi_label=self.table.is_multilabel)

    @cached_property
    def prediction(self) -> Tensor:
        """`(V,)` most probable class; of equal ones the first."""
        return self.probabilities.argmax(dim=1)

    @cached_property
    def label(self) -> Tensor:
        """`(V,)` class of each video, -1 where unknown; `(V, C)` with 1 at each class where there are several."""
        rows = self.views.video
        if self.table.multi_labels is None:
            return torch.from_numpy(self.table.labels[rows.numpy()])
        labels = torch.zeros(len(rows), self.probabilities.shape[1], dtype=torch.uint8)
        for i, row in enumerate(rows.tolist()):
            labels[i, self.table.label_of(row)] = 1
        return labels

    @cached_property
    def known(self) -> Tensor:
        """`(V,)` whether the label is known; all metrics are over these videos."""
        return (self.label >= 0) if self.label.ndim == 1 else torch.ones(len(self.label), dtype=torch.bool)

    @cached_property
    def ranks(self) -> Tensor:
        """Number of classes before the label of each known video."""
        return accuracy.label_ranks(self.probabilities[self.known], self.label[self.known])

    @cached_property
    def confusion(self) -> Tensor:
        """`(C, C)` number of known videos of each label and each prediction."""
        known = self.known
        return accuracy.confusion(self.prediction[known], self.label[known], self.probabilities.shape[1])

    @cached_property
    def class_values(self) -> Tensor:
        """`(C,)` accuracy, or average precision of videos with several labels, in percent; NaN without a video."""
        if self.table.is_multilabel:
            return accuracy.class_precision(self.probabilities, self.label)
        return accuracy.class_accuracy(self.confusion)

    @cached_property
    def reliability(self) -> list[Bin]:
        """Bins of the known videos by the probability of their prediction."""
        return reliability(self.probabilities[self.known], self.label[self.known])

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Headline numbers; NaN without a known video."""
        if self.table.is_multilabel:
            return {"mAP": float(accuracy.mean_known(self.class_values))}
        return {
            "top1": float(accuracy.share_within(self.ranks, 1)),
            "top5": float(accuracy.share_within(self.ranks, 5)),
            "mean_class": float(accuracy.mean_known(self.class_values)),
            **_calibration(self.probabilities[self.known], self.label[self.known], self.reliability),
        }

    def counts(self) -> dict[str, int]:
        """Count the videos of the annotations by their outcome."""
        decodings = self.decodings.values()
        return {
            "expected": len(self.table) + self.table.num_missing,
            "scored": len(self.views.video),
            "failed": len(self.failures),
            "missing": self.table.num_missing,
            "left_out": len(self.left_out),
            "without_label": int((~self.known).sum()),
            "damaged": sum(bool(decoding.damaged) for decoding in decodings),
            "too_short": sum(decoding.too_short for decoding in decodings),
            "repeated_views": self.views.num_repeated,
        }

    def record(self, temperature: Temperature | None = None) -> dict[str, Any]:
        """Return the content of `metrics.json`; undefined numbers are None."""
        known, is_multilabel = self.known, self.table.is_multilabel
        found: dict[str, Any] = {
            "setting": self.setting.record(), "videos": self.counts(), "metrics": self.metrics,
        }  # fmt: skip
        if not is_multilabel:
            found["intervals"] = self._intervals()
            found["if_failed_are_wrong"] = self._if_failed_are_wrong()
            found["reliability"] = [one._asdict() for one in self.reliability]
        if temperature is not None:
            scaled, label = (
                calibration.apply_temperature(self.probabilities[known], temperature.value),
                self.label[known],
            )
            numbers = _calibration(scaled, label, reliability(scaled, label))
            found["temperature"] = {**temperature._asdict(), "metrics": numbers}
        scores, rule = self.views.select(known).scores, self.setting.rule
        found["by_views"] = accuracy_by_views(scores, self.label[known], rule.views, self.setting.ensemble)
        found["classes"] = self._classes()
        return _without_nan(found)

    def _intervals(self) -> dict[str, Any]:
        about = {"level": LEVEL, "method": METHOD}
        if not len(self.ranks):
            return about
        hits = {k: int((self.ranks < k).sum()) for k in (1, 5)}
        return about | {f"top{k}": share_interval(number, len(self.ranks))._asdict() for k, number in hits.items()}

    def _if_failed_are_wrong(self) -> dict[str, float] | None:
        """Return the accuracy with every failed video of a known label counted as wrong; None when none failed."""
        failed = np.fromiter(self.failures, np.int64, len(self.failures))
        num_failed = int((self.table.labels[failed] >= 0).sum())
        if not num_failed:
            return None
        total = len(self.ranks) + num_failed
        return {f"top{k}": 100 * int((self.ranks < k).sum()) / total for k in (1, 5)}

    def _classes(self) -> list[dict[str, Any]]:
        """Name, number of videos, and accuracy or average precision of each class."""
        several = self.table.is_multilabel
        name = "average_precision" if several else "accuracy"
        totals = (self.label.sum(dim=0) if several else self.confusion.sum(dim=1)).tolist()
        names = self.table.class_names or ()
        return [
            {"class": c, "name": names[c] if c < len(names) else None, "num_videos": totals[c], name: value}
            for c, value in enumerate(self.class_values.tolist())
        ]


def _calibration(probabilities: Tensor, label: Tensor, bins: list[Bin]) -> dict[str, float]:
    return {
        "nll": float(calibration.negative_log_likelihood(probabilities, label)),
        "brier": float(calibration.brier_score(probabilities, label)),
        "ece": calibration.calibration_error(bins),
    }


def _without_nan(value: Any) -> Any:
    """Replace NaN, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
