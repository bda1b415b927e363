"""Average precision of ranked detections, shared by segments and boxes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Row = TypeVar("Row", bound=tuple)


def area_under_precision(is_hit: NDArray[np.bool_], num_truth: int) -> float:
    """Return the area under precision against recall, precision made non-increasing from the right, 0 to 1.

    Args:
        is_hit: whether each detection found something, best score first.
        num_truth: annotated instances, found or not; at least 1.

    Source: PASCAL VOC 2010, the rule of ActivityNet and AVA (tests/metrics/test_ranking.py).
    """
    hits = np.cumsum(is_hit)
    precision = hits / np.arange(1, len(hits) + 1)
    highest_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(highest_from_here[is_hit].sum() / num_truth)


def by_score(rows: Iterable[Row]) -> list[Row]:
    """Return the rows, best score first; the score is the last value, rows of equal score keep their order.

    Raises:
        ValueError: a score is NaN.
    """
    rows = list(rows)
    for row in rows:
        if row[-1] != row[-1]:
            raise ValueError(f"score must be a number, got NaN in {row}")
    return sorted(rows, key=lambda row: -row[-1])


def grouped(rows: Iterable[Row], columns: Sequence[int]) -> dict[tuple[Hashable, ...], list[Row]]:
    """Group rows by the values of `columns`; the rows of a group keep their order."""
    groups: dict[tuple[Hashable, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[column] for column in columns)].append(row)
    return groups
