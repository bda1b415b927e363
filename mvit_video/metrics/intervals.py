"""Confidence intervals of percentages, and a paired test of two runs."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL, METHOD = 0.95, "Wilson score"

_Z = NormalDist().inv_cdf((1 + LEVEL) / 2)


class Interval(NamedTuple):
    """Bounds in percent."""

    low: float
    high: float


def share_interval(num_hits: int, num_videos: int) -> Interval:
    """Return the Wilson score interval of the percentage of hits; its width is positive even for 0 % and 100 %.

    Source: Wilson (1927), doi:10.1080/01621459.1927.10502953; equal to SciPy's (tests/metrics/test_intervals.py).
    """
    low, high = _wilson(np.array(num_hits), np.array(num_videos))
    return Interval(100 * float(low), 100 * float(high))


def mean_class_interval(confused: NDArray[np.int64]) -> Interval:
    """Return the interval of the mean class accuracy: distances to the classes' Wilson bounds, added in quadrature.

    Args:
        confused: `(C, C)` number of videos of each label and prediction.

    Source: Zou, Huang and Zhang (2009), doi:10.1016/j.csda.2008.09.033, for a sum of independent shares.
    """
    totals = confused.sum(axis=1)
    totals, hits = totals[totals > 0], confused.diagonal()[totals > 0]
    shares, (low, high) = hits / totals, _wilson(hits, totals)
    mean, number = shares.mean(), len(shares)
    below, above = (float(np.sqrt(np.square(gap).sum())) / number for gap in (shares - low, high - shares))
    return Interval(100 * float(mean - below), 100 * float(mean + above))


def paired_interval(only_first: int, only_second: int, num_videos: int) -> Interval:
    """Return the interval of the second percentage minus the first: Wald's over pairs, one video added to each side.

    Args:
        only_first: videos that only the first run has right.
        only_second: videos that only the second run has right.

    Source: Bonett and Price (2012), doi:10.3102/1076998611411915; recommended by Fagerland, Lydersen and Laake (2014),
    doi:10.1002/sim.6148 (tests/metrics/test_intervals.py).
    """
    first, second = (only_first + 1) / (num_videos + 2), (only_second + 1) / (num_videos + 2)
    difference = second - first
    half = _Z * math.sqrt((first + second - difference**2) / (num_videos + 2))
    return Interval(100 * max(-1.0, difference - half), 100 * min(1.0, difference + half))


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test, two-sided."""
    num_discordant = only_first + only_second
    ways, term = 0, 1  # integers: the divisor exceeds floating point
    for k in range(min(only_first, only_second) + 1):
        ways += term
        term = term * (num_discordant - k) // (k + 1)
    return min(1.0, 2 * ways / 2**num_discordant)


def _wilson(hits: NDArray[np.int64], totals: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the bounds of shares between 0 and 1."""
    middle = hits + _Z**2 / 2
    half = _Z * np.sqrt(hits * (totals - hits) / totals + _Z**2 / 4)
    # exactly 0 and 1 at the ends, despite rounding
    low = np.where(hits == 0, 0.0, (middle - half) / (totals + _Z**2))
    return low, np.where(hits == totals, 1.0, (middle + half) / (totals + _Z**2))
