"""Metrics against naive loops and scikit-learn on random scores, ties included."""

import math
import warnings
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    top_k_accuracy_score,
)
from torch import Tensor

from mvit_video.metrics import accuracy

NUM_CLASSES = 6


def make_videos(seed: int, num_videos: int, ties: bool) -> tuple[Tensor, Tensor]:
    """Probabilities and labels; with ties, the former are multiples of 1/8, and some are 0."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(NUM_CLASSES), num_videos)
    if ties:
        probabilities = np.round(probabilities * 8) / 8
    label = rng.integers(NUM_CLASSES, size=num_videos)
    return torch.from_numpy(probabilities.astype(np.float32)), torch.from_numpy(label)


videos = st.builds(make_videos, st.integers(0, 10**6), st.integers(1, 25), st.booleans())


@given(videos)
def test_ranks_equal_a_naive_loop(made: tuple[Tensor, Tensor]) -> None:
    probabilities, label = made
    ranks = accuracy.label_ranks(probabilities, label)
    for mine, own, rank in zip(probabilities.tolist(), label.tolist(), ranks.tolist(), strict=True):
        assert sorted(range(NUM_CLASSES), key=lambda c: (-mine[c], c)).index(own) == rank
    for k in (1, 5):
        assert float(accuracy.share_within(ranks, k)) == pytest.approx(100 * np.mean(ranks.numpy() < k))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 2])
def test_a_video_with_a_non_finite_score_is_never_right(bad: float, place: int) -> None:
    probabilities, label = torch.tensor([[0.1, 0.7, 0.2], [0.1, 0.7, 0.2]]), torch.tensor([1, 1])
    probabilities[1, place] = bad
    ranks = accuracy.label_ranks(probabilities, label)
    for k in (1, 5):  # also where k is more than the classes
        assert float(accuracy.share_within(ranks, k)) == 50
    assert accuracy.is_scored(probabilities).tolist() == [True, False]


@given(st.integers(0, 10**6), st.integers(3, 25), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_mean_precision_never_finds_videos_with_non_finite_scores(seed: int, num_videos: int, bad: float) -> None:
    rng = np.random.default_rng(seed)
    probabilities = np.round(rng.random((num_videos, 3)) * 8) / 8  # with ties, and zeros
    labels = rng.integers(0, 2, (num_videos, 3))
    labels[0] = 1
    failed = rng.random(num_videos) < 0.3
    expected = np.zeros(3)
    for c in range(3):
        if labels[~failed, c].any():
            share = labels[~failed, c].sum() / labels[:, c].sum()
            expected[c] = share * average_precision_score(labels[~failed, c], probabilities[~failed, c])
    probabilities[failed, rng.integers(3)] = bad
    found = accuracy.class_precision(torch.from_numpy(probabilities).float(), torch.from_numpy(labels))
    assert found.numpy() == pytest.approx(100 * expected, rel=1e-5)


@given(videos)
def test_accuracies_equal_scikit_learn(made: tuple[Tensor, Tensor]) -> None:
    probabilities, label = made
    ranks, prediction = accuracy.label_ranks(probabilities, label), probabilities.argmax(dim=1)
    assert float(accuracy.share_within(ranks, 1)) == pytest.approx(100 * accuracy_score(label, prediction))
    # scikit-learn ranks equal classes from the last to the first
    mirrored = probabilities.numpy()[:, ::-1]
    top5 = top_k_accuracy_score(NUM_CLASSES - 1 - label.numpy(), mirrored, k=5, labels=np.arange(NUM_CLASSES))
    assert float(accuracy.share_within(ranks, 5)) == pytest.approx(100 * top5)
    confused = accuracy.confusion(prediction, label, NUM_CLASSES)
    assert np.array_equal(confused, confusion_matrix(label, prediction, labels=np.arange(NUM_CLASSES)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y_pred contains classes not in y_true")
        warnings.filterwarnings("ignore", "A single label was found")
        mean_class = balanced_accuracy_score(label, prediction)
    assert float(accuracy.mean_known(accuracy.class_accuracy(confused))) == pytest.approx(100 * mean_class)


@given(videos)
def test_class_accuracy_equals_a_naive_loop(made: tuple[Tensor, Tensor]) -> None:
    probabilities, label = made
    prediction = probabilities.argmax(dim=1)
    hits = defaultdict(list)
    for own, guess in zip(label.tolist(), prediction.tolist(), strict=True):
        hits[own].append(own == guess)
    values = accuracy.class_accuracy(accuracy.confusion(prediction, label, NUM_CLASSES)).tolist()
    for c, value in enumerate(values):
        assert math.isnan(value) if c not in hits else value == pytest.approx(100 * np.mean(hits[c]))


@given(st.integers(0, 10**6), st.integers(1, 25), st.booleans())
def test_average_precision_equals_scikit_learn(seed: int, num_videos: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((num_videos, NUM_CLASSES), dtype=np.float32)
    if ties:
        scores = np.round(scores * 4) / 4
    labels = rng.random((num_videos, NUM_CLASSES)) < 0.2
    values = accuracy.class_precision(torch.from_numpy(scores), torch.from_numpy(labels.astype(np.uint8)))
    expected = [
        100 * average_precision_score(labels[:, c], scores[:, c]) if labels[:, c].any() else math.nan
        for c in range(NUM_CLASSES)
    ]
    assert values.tolist() == pytest.approx(expected, nan_ok=True, abs=1e-4)
    mean = float(accuracy.mean_known(values))
    assert mean == pytest.approx(np.nanmean(expected) if labels.any() else math.nan, nan_ok=True, abs=1e-4)


def test_no_video_has_no_accuracy() -> None:
    nothing, label = torch.empty(0, NUM_CLASSES), torch.empty(0, dtype=torch.long)
    assert math.isnan(accuracy.share_within(accuracy.label_ranks(nothing, label), 1))
    assert math.isnan(accuracy.mean_known(accuracy.class_accuracy(accuracy.confusion(label, label, NUM_CLASSES))))
