"""Intervals against SciPy and worked examples, how often they hold the truth, and McNemar's test against SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.metrics.intervals import mcnemar_exact, mean_class_interval, paired_interval, share_interval


@given(st.integers(1, 3000), st.floats(0, 1))
def test_share_equals_scipys_wilson(num_videos: int, share: float) -> None:
    stats = pytest.importorskip("scipy.stats")  # came with scikit-learn
    num_hits = round(share * num_videos)
    expected = stats.binomtest(num_hits, num_videos).proportion_ci(0.95, method="wilson")
    low, high = share_interval(num_hits, num_videos)
    assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)
    assert 0 <= low <= 100 * num_hits / num_videos <= high <= 100


def test_six_of_six_has_a_width() -> None:
    assert share_interval(6, 6) == (pytest.approx(60.97, abs=0.01), 100)
    assert share_interval(0, 6) == (0, pytest.approx(39.03, abs=0.01))
    low, high = mean_class_interval(np.diag([3, 3]))
    assert (round(low, 1), high) == (60.3, 100)
    low, high = paired_interval(0, 0, 6)
    assert low == -high < -20


def test_the_interval_of_the_mean_class() -> None:
    assert mean_class_interval(np.array([[17, 3], [0, 0]])) == pytest.approx(share_interval(17, 20))
    low, high = mean_class_interval(np.array([[300, 100], [50, 50]]))
    # variance of the mean of two independent shares, of which the rarer class has nearly all
    spread = 100 * np.sqrt(0.75 * 0.25 / 400 + 0.5 * 0.5 / 100) / 2
    assert (low, high) == pytest.approx((62.5 - 1.96 * spread, 62.5 + 1.96 * spread), abs=0.3)
    rng, held = np.random.default_rng(0), 0
    for hits in rng.binomial([40, 5, 10], [0.7, 0.9, 0.5], (1000, 3)):
        low, high = mean_class_interval(np.diag(hits) + np.roll(np.diag([40, 5, 10] - hits), 1, axis=1))
        held += low <= 70 <= high
    assert 0.93 <= held / 1000 <= 0.98


def test_pairs_of_a_worked_example() -> None:
    """1 and 7 of 21 pairs differ."""
    first, second = 2 / 23, 8 / 23
    half = 1.959964 * np.sqrt((first + second - (second - first) ** 2) / 23)
    assert paired_interval(1, 7, 21) == pytest.approx((100 * (second - first - half), 100 * (second - first + half)))
    assert paired_interval(7, 1, 21) == pytest.approx((-50.8, -1.4), abs=0.1)


def test_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, truth, num_videos = np.random.default_rng(0), 0.7, 300
    held = 0
    for hits in rng.binomial(num_videos, truth, 1000):
        low, high = share_interval(int(hits), num_videos)
        held += low <= 100 * truth <= high
    assert 0.93 <= held / 1000 <= 0.97


def test_paired_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, shares, num_videos = np.random.default_rng(0), [0.1, 0.14, 0.76], 400
    held = 0
    for first, second, _ in rng.multinomial(num_videos, shares, 1000):
        low, high = paired_interval(int(first), int(second), num_videos)
        held += low <= 4 <= high
    assert 0.93 <= held / 1000 <= 0.97


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_equals_scipy(first: int, second: int) -> None:
    stats = pytest.importorskip("scipy.stats")  # came with scikit-learn
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar_exact(first, second) == pytest.approx(expected)
    assert mcnemar_exact(second, first) == mcnemar_exact(first, second)


def test_mcnemar_of_thousands() -> None:
    assert mcnemar_exact(5000, 5000) == 1
    assert mcnemar_exact(2000, 8000) == 0  # beyond the smallest number of floating point
    assert 0 < mcnemar_exact(4800, 5200) < 1e-3
