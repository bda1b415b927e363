"""How far a number would move had other videos been drawn: bootstrap intervals and a paired test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL, NUM_RESAMPLES, SEED = 0.95, 10_000, 0


class Interval(NamedTuple):
    """Bounds in percent."""

    low: float
    high: float


def share_interval(num_hits: int, num_videos: int) -> Interval:
    """Percentile bootstrap interval of the percentage of hits.

    To draw n videos anew, with replacement, of which h are hits is to draw the number of hits from a binomial
    distribution with n trials of probability h / n: no video has to be touched.
    """
    hits = np.random.default_rng(SEED).binomial(num_videos, num_hits / num_videos, NUM_RESAMPLES)
    return _percentiles(100 * hits / num_videos)


def mean_class_interval(confused: NDArray[np.int64]) -> Interval:
    """Percentile bootstrap interval of the mean class accuracy, videos drawn anew from each class on its own.

    Args:
        confused: `(C, C)` number of videos of each label and prediction.
    """
    totals = confused.sum(axis=1)
    totals, hits = totals[totals > 0], confused.diagonal()[totals > 0]
    rng = np.random.default_rng(SEED)
    drawn = sum(rng.binomial(n, h / n, NUM_RESAMPLES) / n for n, h in zip(totals, hits, strict=True))
    return _percentiles(100 * np.asarray(drawn) / len(totals))


def paired_interval(only_first: int, only_second: int, num_videos: int) -> Interval:
    """Percentile bootstrap interval of the second run's percentage minus the first's, videos drawn in pairs.

    Args:
        only_first: videos that only the first run has right.
        only_second: videos that only the second run has right.
    """
    shares = np.array([only_first, only_second, num_videos - only_first - only_second]) / num_videos
    counts = np.random.default_rng(SEED).multinomial(num_videos, shares, NUM_RESAMPLES)
    return _percentiles(100 * (counts[:, 1] - counts[:, 0]) / num_videos)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Probability of a split at least this uneven if neither run were better: McNemar's exact test, two-sided."""
    num_discordant = only_first + only_second
    ways, term = 0, 1  # whole numbers of any size: what they are divided by is beyond floating point
    for k in range(min(only_first, only_second) + 1):
        ways += term
        term = term * (num_discordant - k) // (k + 1)
    return min(1.0, 2 * ways / 2**num_discordant)


def _percentiles(values: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
