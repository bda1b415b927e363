"""Comparison of two tests of the same videos."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mvit_video.metrics.intervals import LEVEL, Interval, mcnemar_exact, paired_interval
from mvit_video.runs.predictions import Key, Predictions, in_words
from mvit_video.types import ConfigError


class ClassChange(NamedTuple):
    """A class and its accuracy in both runs, in percent."""

    number: int
    name: str | None
    num_videos: int
    first: float
    second: float
    difference: float


class Missed(NamedTuple):
    """A video that only one run predicts right."""

    path: str
    start: float | None
    end: float | None
    label: int
    first_prediction: int
    second_prediction: int


@dataclass(frozen=True)
class Comparison:
    """Difference of two runs on the videos with a label that both scored.

    Attributes:
        num_left_out: videos without a label, or without a score in one run.
        settings: differing settings, with both values.
        top1: of each run, in percent.
        difference: top1 of the second run minus top1 of the first.
        interval: of the difference, over pairs of videos.
        p_value: McNemar's exact test, two-sided.
        classes: classes of differing accuracy, the largest losses first.
    """

    num_videos: int
    num_left_out: int
    settings: dict[str, tuple[str | None, str | None]]
    top1: tuple[float, float]
    difference: float
    interval: Interval
    p_value: float
    only_first: list[Missed]
    only_second: list[Missed]
    classes: list[ClassChange]

    def record(self) -> dict[str, Any]:
        """Return the comparison as JSON objects."""
        return {
            **asdict(self),
            "level": LEVEL,
            "interval": self.interval._asdict(),
            **{
                name: [one._asdict() for one in getattr(self, name)]
                for name in ("only_first", "only_second", "classes")
            },
        }


def compare_predictions(first: Predictions, second: Predictions) -> Comparison:
    """Compare two tests of the same videos.

    Raises:
        ConfigError: the runs have different videos or classes, or no video that both scored.
    """
    for one in (first, second):
        if one.is_multilabel:
            raise ConfigError(f"{one.file}: its videos have several labels each; top1 compares those with one")
    _check_same_classes(first, second)
    order = _pair(first, second)
    differing = (first.label != second.label[order]).nonzero()[0]
    if differing.size:
        i = differing[0]
        labels = f"label {first.label[i]} in {first.file} but {second.label[order[i]]} in {second.file}"
        raise ConfigError(f"{in_words(first.keys[i])} has {labels}")
    usable = first.scored & second.scored[order] & (first.label >= 0)
    if not usable.any():
        raise ConfigError(f"{first.file} and {second.file} have no video with a label that both scored")
    label = first.label
    right = first.prediction == label, second.prediction[order] == label
    only = [usable & right[i] & ~right[1 - i] for i in range(2)]
    num_videos, num_only = int(usable.sum()), [int(mask.sum()) for mask in only]
    guesses = first.prediction, second.prediction[order]
    return Comparison(
        num_videos=num_videos,
        num_left_out=len(label) - num_videos,
        settings=_settings(first, second),
        top1=(100 * float(right[0][usable].mean()), 100 * float(right[1][usable].mean())),
        difference=100 * (num_only[1] - num_only[0]) / num_videos,
        interval=paired_interval(num_only[0], num_only[1], num_videos),
        p_value=mcnemar_exact(num_only[0], num_only[1]),
        only_first=_missed(first, only[0], guesses),
        only_second=_missed(first, only[1], guesses),
        classes=_classes(first, label[usable], right[0][usable], right[1][usable]),
    )


def _pair(first: Predictions, second: Predictions) -> NDArray[np.int64]:
    """Return the row of the second run for each row of the first; repeated videos are paired in order."""
    rows: dict[Key, deque[int]] = defaultdict(deque)
    for i, key in enumerate(second.keys):
        rows[key].append(i)
    order = np.empty(len(first.keys), np.int64)
    for i, key in enumerate(first.keys):
        if not rows[key]:
            raise ConfigError(f"the runs are over different videos: {in_words(key)} is in {first.file} alone")
        order[i] = rows[key].popleft()
    if len(second.keys) > len(order):
        key = next(key for key in second.keys if rows[key])
        raise ConfigError(f"the runs are over different videos: {in_words(key)} is in {second.file} alone")
    return order


def _check_same_classes(first: Predictions, second: Predictions) -> None:
    if first.class_names is None or second.class_names is None:
        return
    for i, (one, other) in enumerate(zip_longest(first.class_names, second.class_names)):
        if one != other:
            raise ConfigError(f"class {i} is {one!r} in {first.file} but {other!r} in {second.file}")


def _settings(first: Predictions, second: Predictions) -> dict[str, tuple[str | None, str | None]]:
    keys = [key for key in {**first.metadata, **second.metadata} if key not in ("root", "class_names")]
    pairs = {key: (first.metadata.get(key), second.metadata.get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _missed(
    first: Predictions, mask: NDArray[np.bool_], guesses: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> list[Missed]:
    return [
        Missed(*first.keys[i], int(first.label[i]), int(guesses[0][i]), int(guesses[1][i])) for i in mask.nonzero()[0]
    ]


def _classes(first: Predictions, label: NDArray[np.int64], *right: NDArray[np.bool_]) -> list[ClassChange]:
    totals = np.bincount(label)
    names = first.class_names
    hits = [np.bincount(label[mask], minlength=len(totals)) for mask in right]
    changes = []
    for c in (hits[0] != hits[1]).nonzero()[0].tolist():
        one, other = (100 * int(hit[c]) / int(totals[c]) for hit in hits)
        name = names[c] if names is not None else None
        changes.append(ClassChange(c, name, int(totals[c]), one, other, other - one))
    return sorted(changes, key=lambda change: change.difference)
