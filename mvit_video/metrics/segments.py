"""Average precision of segments in time, by ActivityNet's rule.

Predictions are rows `(video, start, end, label, score)`, annotations `(video, start, end, label)`, times in seconds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mvit_video.metrics.ranking import area_under_precision, by_score, grouped

Segment = tuple[Hashable, float, float, Hashable]
ScoredSegment = tuple[Hashable, float, float, Hashable, float]


def mean_average_precision(
    predicted: Iterable[ScoredSegment], truth: Iterable[Segment], tiou: float | Sequence[float] = (0.5,)
) -> float:
    """Return the mean over classes and thresholds of the average precision, 0 to 1; NaN without annotations.

    Raises:
        ValueError: a segment ends before it starts, a time or score is NaN.
    """
    table = average_precision(predicted, truth, tiou)
    return float(np.mean([*table.values()])) if table else float("nan")


def average_precision(
    predicted: Iterable[ScoredSegment], truth: Iterable[Segment], tiou: float | Sequence[float] = (0.5,)
) -> dict[Hashable, NDArray[np.float64]]:
    """Return the average precision of each annotated class at each threshold.

    In descending score, a prediction takes the free annotation of its video and class with the largest overlap; an
    overlap equal to the threshold counts. A prediction of a class without annotations is ignored, one in a video
    without annotations of its class is a false positive. A segment of no length overlaps nothing.

    Args:
        tiou: intersection over union from which a segment counts as found, between 0 (exclusive) and 1.

    Source: ActivityNet `eval_detection.py` @ 82304fa, without its hits by empty segments
    (tests/metrics/test_segments.py).
    """
    # `numpy.arange` gives 0.8000000000000003: an overlap of exactly 0.8 would be missed
    thresholds = np.round(np.atleast_1d(np.asarray(tiou, np.float64)), 6)
    if not ((thresholds > 0) & (thresholds <= 1)).all():
        raise ValueError(f"tiou must lie in (0, 1], got {tiou}")
    truth, predicted = _checked(truth), _checked(predicted)
    annotated = grouped(truth, (3,))
    claimed = grouped(predicted, (3,))
    return {key[0]: _class_precision(claimed.get(key, []), rows, thresholds) for key, rows in annotated.items()}


def overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of each pair of segments, `(P, 2)` and `(G, 2)` to `(P, G)`."""
    start = np.maximum(first[:, None, 0], second[None, :, 0])
    end = np.minimum(first[:, None, 1], second[None, :, 1])
    shared = np.clip(end - start, 0, None)
    union = (first[:, 1] - first[:, 0])[:, None] + (second[:, 1] - second[:, 0])[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _class_precision(
    predicted: list[ScoredSegment], truth: list[Segment], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    ranked = by_score(predicted)
    is_hit = np.zeros((len(thresholds), len(ranked)), bool)
    annotated = grouped(truth, (0,))
    for key, places in grouped([(row[0], rank) for rank, row in enumerate(ranked)], (0,)).items():
        if key in annotated:
            ranks = [rank for _, rank in places]
            spans = (
                np.array([row[1:3] for row in rows], float) for rows in ([ranked[r] for r in ranks], annotated[key])
            )
            is_hit[:, ranks] = _hits(overlaps(*spans), thresholds)
    return np.array([area_under_precision(hits, len(truth)) for hits in is_hit])


def _hits(overlap: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each prediction of one video and class, best first, finds an annotation, per threshold."""
    is_hit = np.zeros((len(thresholds), len(overlap)), bool)
    nearest_first = np.argsort(-overlap, axis=1, kind="stable")
    for level, threshold in enumerate(thresholds):
        taken: set[int] = set()
        for row in np.flatnonzero(overlap.max(axis=1) >= threshold):
            reached = (int(one) for one in nearest_first[row] if overlap[row, one] >= threshold)
            found = next((one for one in reached if one not in taken), None)
            if found is not None:
                taken.add(found)
                is_hit[level, row] = True
    return is_hit


def _checked(rows: Iterable[tuple]) -> list:
    checked = list(rows)
    for row in checked:
        if not row[1] <= row[2]:
            raise ValueError(f"a segment must end after it starts, got {row[1]} to {row[2]} in video {row[0]!r}")
    return checked
