"""Average precision of boxes in key frames, by AVA's rule.

Predictions are rows `(video, time, x1, y1, x2, y2, label, score)`, annotations the same without a score. Times are
seconds, compared to the millisecond; boxes are in any unit, the same on both sides.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mvit_video.metrics.ranking import area_under_precision, by_score, grouped

Box = tuple[Hashable, float, float, float, float, float, Hashable]
ScoredBox = tuple[Hashable, float, float, float, float, float, Hashable, float]
Frame = tuple[Hashable, float]
Rule = Literal["official", "slowfast"]


def mean_average_precision(
    predicted: Iterable[ScoredBox], truth: Iterable[Box], iou: float = 0.5, **rules: Any
) -> float:
    """Return the mean over annotated classes of the average precision, 0 to 1; NaN without annotations.

    Args:
        rules: see `average_precision`.
    """
    table = average_precision(predicted, truth, iou, **rules)
    return float(np.mean([*table.values()])) if table else float("nan")


def average_precision(
    predicted: Iterable[ScoredBox],
    truth: Iterable[Box],
    iou: float = 0.5,
    *,
    classes: Collection[Hashable] | None = None,
    frames: Iterable[Frame] = (),
    excluded: Iterable[Frame] = (),
    max_per_frame: int = 50,
    rule: Rule = "official",
) -> dict[Hashable, float]:
    """Return the average precision of each annotated class.

    In descending score, a prediction finds the annotation of its frame and class with the largest overlap if that
    reaches `iou` and is still free; it has no second choice. Predictions of a class without annotations and boxes
    without area are ignored.

    Args:
        classes: the labels that count; None is all.
        frames: evaluated frames, with or without annotations; predictions elsewhere are ignored.
        excluded: frames that are removed from both sides.
        max_per_frame: only this many best predictions of a frame count, over all classes.
        rule: "slowfast" matches in the order of the rows, evaluates every frame and keeps every prediction.

    Source: ActivityNet `get_ava_performance` and SlowFast's copy @ 287ec00 (tests/metrics/test_boxes.py).
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou must lie in (0, 1], got {iou}")
    left_out = {_frame(one) for one in excluded}
    counted = [_keyed(row) for row in truth if (classes is None or row[6] in classes) and _frame(row) not in left_out]
    evaluated = {_frame(one) for one in frames} | {row[:2] for row in counted}
    claims = [_keyed(row) for row in predicted if classes is None or row[6] in classes]
    claims = [row for row in claims if row[:2] not in left_out and row[4] > row[2] and row[5] > row[3]]
    ranked = by_score(claims)
    if rule == "official":
        in_frames = grouped([row for row in ranked if row[:2] in evaluated], (0, 1)).values()
        claims = [row for rows in in_frames for row in rows[:max_per_frame]]
    claimed = grouped(claims, (6,))
    return {key[0]: _class_precision(claimed.get(key, []), rows, iou) for key, rows in grouped(counted, (6,)).items()}


def overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of each pair of boxes, `(P, 4)` and `(G, 4)` to `(P, G)`."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _class_precision(predicted: list, truth: list, iou: float) -> float:
    is_hit = np.zeros(len(predicted), bool)
    annotated = grouped(truth, (0, 1))
    for key, places in grouped([(*row[:2], place) for place, row in enumerate(predicted)], (0, 1)).items():
        if key in annotated:
            rows = [place for *_, place in places]
            boxes = (
                np.array([row[2:6] for row in some], float) for some in ([predicted[r] for r in rows], annotated[key])
            )
            is_hit[rows] = _hits(overlaps(*boxes), iou)
    order = np.argsort([-row[7] for row in predicted], kind="stable")
    return area_under_precision(is_hit[order], len(truth)) if len(predicted) else 0.0


def _hits(overlap: NDArray[np.float64], iou: float) -> NDArray[np.bool_]:
    """Return whether each prediction of one frame and class finds an annotation, in the order of the rows."""
    nearest = overlap.argmax(axis=1)
    reached = overlap.max(axis=1) >= iou
    # the first to reach an annotation takes it
    first = np.zeros(len(overlap), bool)
    first[np.flatnonzero(reached)[np.unique(nearest[reached], return_index=True)[1]]] = True
    return first


def _frame(row: tuple) -> Frame:
    return row[0], round(float(row[1]), 3)


def _keyed(row: tuple) -> tuple:
    return *_frame(row), *row[2:]
