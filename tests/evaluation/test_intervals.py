"""Bootstrap intervals against loops over videos, how often they hold the truth, and McNemar's test against SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.evaluation.intervals import mcnemar_exact, mean_class_interval, paired_interval, share_interval


def resample(values: np.ndarray, num_resamples: int = 4000) -> np.ndarray:
    """Means of videos drawn anew, one by one."""
    rng = np.random.default_rng(1)
    return np.array([values[rng.integers(len(values), size=len(values))].mean() for _ in range(num_resamples)])


@pytest.mark.parametrize(("num_hits", "num_videos"), [(60, 80), (1, 30), (0, 10), (10, 10)])
def test_share_equals_a_loop_over_videos(num_hits: int, num_videos: int) -> None:
    values = np.repeat([100.0, 0.0], [num_hits, num_videos - num_hits])
    expected = np.quantile(resample(values), [0.025, 0.975])
    assert share_interval(num_hits, num_videos) == pytest.approx(expected, abs=1.5 * 100 / num_videos)


def test_the_interval_of_the_mean_class_is_that_of_the_share_where_there_is_one_class() -> None:
    assert mean_class_interval(np.array([[17, 3], [0, 0]])) == share_interval(17, 20)
    low, high = mean_class_interval(np.array([[30, 10], [5, 5]]))
    # variance of the mean of two independent shares, of which the rarer class has nearly all
    spread = 100 * np.sqrt(0.75 * 0.25 / 40 + 0.5 * 0.5 / 10) / 2
    assert (low, high) == pytest.approx((62.5 - 1.96 * spread, 62.5 + 1.96 * spread), abs=1.5)


def test_pairs_equal_a_loop_over_videos() -> None:
    values = np.repeat([-100.0, 100.0, 0.0], [12, 25, 63])
    expected = np.quantile(resample(values), [0.025, 0.975])
    assert paired_interval(12, 25, 100) == pytest.approx(expected, abs=1.5)


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


def test_an_interval_is_the_same_every_time() -> None:
    assert share_interval(70_000, 99_999) == share_interval(70_000, 99_999)


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
