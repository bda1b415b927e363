"""Counts, pairs and order of classes, against a loop."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from mvit_video.evaluation.report.confusions import (
    class_scores,
    confusion_counts,
    most_involved,
    order_by_similarity,
    worst_pairs,
)
from mvit_video.evaluation.report.videos import ScoredVideos

CLASSES = 7
PAIRS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), max_size=60)


def scored(pairs: list[tuple[int, int]], unknown: int = 0) -> ScoredVideos:
    """Videos of which label and first guess are given, and some without a label."""
    guesses = np.array([guess for _, guess in pairs] + [0] * unknown, np.int64)[:, None]
    labels = [[label] for label, _ in pairs] + [[]] * unknown
    return ScoredVideos(np.arange(len(labels)), labels, guesses, np.ones((len(labels), 1)), [[]] * len(labels), CLASSES)


@given(PAIRS, st.integers(0, 3))
def test_counts_are_those_of_a_loop(pairs: list[tuple[int, int]], unknown: int) -> None:
    counts = confusion_counts(scored(pairs, unknown))
    assert {(label, guess): number for label, guess, number in counts.tolist()} == Counter(pairs)


@given(PAIRS)
def test_pairs_are_those_of_a_loop(pairs: list[tuple[int, int]]) -> None:
    found = worst_pairs(confusion_counts(scored(pairs)), CLASSES)
    totals, seen = Counter(label for label, _ in pairs), Counter(pairs)
    assert {frozenset(pair[:2]) for pair in found} == {frozenset(pair) for pair in pairs if pair[0] != pair[1]}
    assert len(found) == len({frozenset(pair[:2]) for pair in found})
    for pair in found:
        assert pair.first_as_second == seen[pair.first, pair.second] >= seen[pair.second, pair.first]
        assert pair.second_as_first == seen[pair.second, pair.first]
        assert (pair.num_first, pair.num_second) == (totals[pair.first], totals[pair.second])
    mistakes = [pair.first_as_second + pair.second_as_first for pair in found]
    assert mistakes == sorted(mistakes, reverse=True)


@given(PAIRS, st.integers(1, CLASSES))
def test_order_has_every_class_once(pairs: list[tuple[int, int]], most: int) -> None:
    counts = confusion_counts(scored(pairs))
    classes = most_involved(counts, most)
    assert len(classes) == min(most, len({c for pair in pairs for c in pair}))
    assert sorted(order_by_similarity(counts, classes)) == classes.tolist()


def test_those_with_mistakes_are_involved_most() -> None:
    counts = confusion_counts(scored([(0, 0)] * 9 + [(1, 5)] * 3 + [(2, 1)]))
    assert most_involved(counts, 2).tolist() == [1, 5]
    assert most_involved(counts, 3).tolist() == [1, 2, 5]


def test_similar_classes_stand_side_by_side() -> None:
    pairs = [(c, c) for c in range(CLASSES)] * 5
    pairs += [(0, 6), (6, 0)] * 4 + [(6, 3)] * 2 + [(2, 5)] * 3 + [(1, 4)]
    order = order_by_similarity(confusion_counts(scored(pairs)), np.arange(CLASSES))
    assert order[:3] in ([0, 6, 3], [3, 6, 0])
    assert {frozenset(order[3:5]), frozenset(order[5:7])} == {frozenset({2, 5}), frozenset({1, 4})}


def test_a_thousand_classes_are_ordered_in_seconds() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(1000), 20)
    guess = np.where(rng.random(20_000) < 0.6, label ^ 1, rng.integers(0, 1000, 20_000))
    cells, number = np.unique(label * 1000 + guess, return_counts=True)
    counts = np.stack([*np.divmod(cells, 1000), number], axis=1)
    order = order_by_similarity(counts, np.arange(1000))
    place = np.argsort(order)
    assert (np.abs(place[0::2] - place[1::2]) == 1).mean() > 0.95


def test_scores_of_classes_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    label, guess = rng.integers(8, size=200), rng.integers(6, size=200)  # two classes are never predicted
    cells, number = np.unique(label * 10 + guess, return_counts=True)
    scores = class_scores(np.stack([*np.divmod(cells, 10), number], axis=1), 10)
    expected = precision_recall_fscore_support(label, guess, labels=np.arange(10), zero_division=np.nan)
    for found, values in zip((scores.precision, scores.recall, scores.f1), expected, strict=False):
        assert [np.nan if one is None else one for one in found] == pytest.approx(100 * values, nan_ok=True)
    assert scores.videos == expected[3].tolist()
