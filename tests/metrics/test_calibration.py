"""Reliability against torchmetrics and a naive loop; temperatures that are known beforehand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from mvit_video.metrics.calibration import (
    apply_temperature,
    brier_score,
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)  # fmt: skip


def make_logits(seed: int, num_videos: int, num_classes: int = 5) -> torch.Tensor:
    return 3 * torch.randn(num_videos, num_classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_labels(seed: int, logits: torch.Tensor) -> torch.Tensor:
    return torch.multinomial(logits.softmax(dim=1), 1, generator=torch.Generator().manual_seed(seed))[:, 0]


@given(st.integers(0, 10**6), st.integers(1, 60))
def test_error_equals_torchmetrics(seed: int, num_videos: int) -> None:
    probabilities = make_logits(seed, num_videos).softmax(dim=1)
    label = draw_labels(seed + 1, make_logits(seed + 2, num_videos))
    expected = multiclass_calibration_error(probabilities, label, num_classes=5, n_bins=15, norm="l1")
    assert calibration_error(reliability(probabilities, label)) == pytest.approx(
        100 * float(expected), abs=1e-4
    )  # single precision


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 20))
def test_bins_equal_a_naive_loop(seed: int, num_videos: int, num_bins: int) -> None:
    """Multiples of 1/8: on edges of bins, equal within a video, and 1."""
    rng = np.random.default_rng(seed)
    probabilities = np.round(rng.dirichlet(np.full(5, 0.3), num_videos) * 8) / 8
    label = rng.integers(5, size=num_videos)
    bins = reliability(torch.from_numpy(probabilities), torch.from_numpy(label), num_bins)
    gaps = []
    for i, one in enumerate(bins):
        held = [
            (max(mine), mine.index(max(mine)) == own)
            for mine, own in zip(probabilities.tolist(), label.tolist(), strict=True)
            if one.low <= max(mine) < one.high or (i == num_bins - 1 and max(mine) >= 1)
        ]
        assert one.num_videos == len(held)
        if held:
            assert one.confidence == pytest.approx(np.mean([confidence for confidence, _ in held]))
            assert one.accuracy == pytest.approx(np.mean([right for _, right in held]))
            gaps.append(len(held) * abs(one.confidence - one.accuracy))
        else:
            assert (one.confidence, one.accuracy) == (None, None)
    assert calibration_error(bins) == pytest.approx(100 * sum(gaps) / num_videos)


def test_no_video_has_no_error() -> None:
    bins = reliability(torch.empty(0, 5), torch.empty(0, dtype=torch.long))
    assert math.isnan(calibration_error(bins))


@given(st.integers(0, 10**6), st.integers(1, 25), st.booleans())
def test_likelihood_and_brier_equal_a_naive_loop(seed: int, num_videos: int, zeros: bool) -> None:
    probabilities, label = make_logits(seed, num_videos).softmax(dim=1), draw_labels(seed, make_logits(1, num_videos))
    probabilities = (probabilities * 8).round() / 8 if zeros else probabilities
    tiny, logs, squares = float(np.finfo(np.float32).tiny), [], []
    for mine, own in zip(probabilities.tolist(), label.tolist(), strict=True):
        logs.append(-math.log(max(mine[own], tiny)))
        squares.append(sum((p - (c == own)) ** 2 for c, p in enumerate(mine)))
    assert float(negative_log_likelihood(probabilities, label)) == pytest.approx(np.mean(logs))
    assert float(brier_score(probabilities, label)) == pytest.approx(np.mean(squares))


@given(st.integers(0, 10**6), st.integers(2, 25))
def test_likelihood_and_brier_equal_scikit_learn(seed: int, num_videos: int) -> None:
    probabilities, label = make_logits(seed, num_videos).softmax(dim=1), draw_labels(seed, make_logits(1, num_videos))
    exact, labels = probabilities.numpy(), np.arange(5)
    nll = float(negative_log_likelihood(probabilities, label))
    assert nll == pytest.approx(log_loss(label, exact, labels=labels), rel=1e-5)
    brier = brier_score_loss(label, exact, labels=labels, scale_by_half=False)
    assert float(brier_score(probabilities, label)) == pytest.approx(brier, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_finds_the_temperature_of_overconfident_scores(temperature: float) -> None:
    truth = make_logits(0, 20_000)
    found = fit_temperature((truth * temperature).softmax(dim=1), draw_labels(1, truth))
    assert found == pytest.approx(temperature, rel=0.05)


@given(st.integers(0, 10**6), st.floats(0.2, 5))
def test_no_other_temperature_is_more_likely(seed: int, other: float) -> None:
    logits = make_logits(seed, 200)
    probabilities, label = (2 * logits).softmax(dim=1).float(), draw_labels(seed, logits)
    best = apply_temperature(probabilities, fit_temperature(probabilities, label))
    rival = apply_temperature(probabilities, other)
    assert negative_log_likelihood(best, label) <= negative_log_likelihood(rival, label) + 1e-6


@given(st.integers(0, 10**6), st.floats(0.2, 5))
def test_a_temperature_keeps_the_ranking(seed: int, temperature: float) -> None:
    probabilities = make_logits(seed, 20).softmax(dim=1).float()
    scaled = apply_temperature(probabilities, temperature)
    assert torch.equal(scaled.argsort(dim=1), probabilities.argsort(dim=1))
    torch.testing.assert_close(apply_temperature(probabilities, 1.0), probabilities)


def test_probabilities_of_zero_do_no_harm() -> None:
    probabilities, label = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1])
    assert math.isfinite(fit_temperature(probabilities, label))
    assert apply_temperature(probabilities, 2.0).isfinite().all()
