"""Confusion of classes.

Letters: C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mvit_video.evaluation.report.videos import ScoredVideos

Counts = NDArray[np.int64]


class Pair(NamedTuple):
    """Two confused classes.

    Attributes:
        first: the class with more mistakes; at a tie the lower number.
        first_as_second: videos of the first class that were predicted as the second.
        num_first: videos of the first class.
    """

    first: int
    second: int
    first_as_second: int
    second_as_first: int
    num_first: int
    num_second: int


def confusion_counts(videos: ScoredVideos) -> Counts:
    """Return label, first guess and number of videos of each pair that occurs, `(N, 3)`."""
    known = [i for i, own in enumerate(videos.labels) if own]
    label = np.array([videos.labels[i][0] for i in known], np.int64)
    cells, number = np.unique(label * videos.num_classes + videos.first_guess[known], return_counts=True)
    return np.stack([*np.divmod(cells, videos.num_classes), number], axis=1)


class ClassScores(NamedTuple):
    """Scores of each class in percent; None where they are not defined."""

    videos: list[int]
    recall: list[float | None]
    precision: list[float | None]
    f1: list[float | None]


def class_scores(counts: Counts, num_classes: int) -> ClassScores:
    """Return recall, precision and F1 of each class.

    A class without a video or a prediction has no recall or precision; F1 is undefined where a class has neither.
    """
    right = _videos_by(0, counts[counts[:, 0] == counts[:, 1]], num_classes)
    labelled, predicted = _videos_by(0, counts, num_classes), _videos_by(1, counts, num_classes)

    def share(part: Counts, whole: Counts) -> list[float | None]:
        return [100 * p / w if w else None for p, w in zip(part.tolist(), whole.tolist(), strict=True)]

    recall, precision = share(right, labelled), share(right, predicted)
    return ClassScores(labelled.tolist(), recall, precision, share(2 * right, labelled + predicted))


def _videos_by(column: int, counts: Counts, num_classes: int) -> Counts:
    return np.bincount(counts[:, column], counts[:, 2], num_classes).astype(np.int64)


def worst_pairs(counts: Counts, num_classes: int) -> list[Pair]:
    """Return the pairs of classes with a mistake between them, those with the most first."""
    totals = _videos_by(0, counts, num_classes)
    directed = {(label, guess): number for label, guess, number in counts.tolist() if label != guess}
    pairs = []
    for label, guess in directed:
        there, back = directed[label, guess], directed.get((guess, label), 0)
        if (there, -label) > (back, -guess):
            pairs.append(Pair(label, guess, there, back, int(totals[label]), int(totals[guess])))
    return sorted(pairs, key=lambda pair: (-pair.first_as_second - pair.second_as_first, pair.first, pair.second))


def most_involved(counts: Counts, most: int) -> Counts:
    """Return at most `most` classes with a video or a guess: those with the most mistakes, in order."""
    classes = np.unique(counts[:, :2])
    wrong = counts[counts[:, 0] != counts[:, 1]]
    ends = np.concatenate([wrong[:, 0], wrong[:, 1]])
    mistakes = np.bincount(ends, weights=np.tile(wrong[:, 2], 2), minlength=int(classes.max(initial=-1)) + 1)
    chosen = np.argsort(-mistakes[classes], kind="stable")[:most]
    return np.sort(classes[chosen])


def order_by_similarity(counts: Counts, classes: Counts) -> list[int]:
    """Order the classes so that confused ones are side by side.

    Average linkage joins groups of classes, the most similar first, and puts their most similar ends together. Classes
    without a mistake come last.
    """
    place = {c: i for i, c in enumerate(classes.tolist())}
    similar = np.zeros((len(classes), len(classes)))
    totals = np.ones(len(classes))
    for label, guess, number in counts.tolist():
        if label in place and guess in place:
            totals[place[label]] += number
            if label != guess:
                similar[place[label], place[guess]] += number
                similar[place[guess], place[label]] += number
    similar /= totals[:, None] + totals
    groups = _join(similar)
    return [int(classes[i]) for group in groups for i in group]


def _join(similar: NDArray[np.float64]) -> list[list[int]]:
    """Join similar places into groups until no two have anything in common; return the largest first."""
    groups = {i: [i] for i in range(len(similar))}
    linkage = similar.copy()
    np.fill_diagonal(linkage, 0)
    while len(groups) > 1:
        i, j = divmod(int(linkage.argmax()), len(linkage))
        if linkage[i, j] <= 0:
            break
        sizes = len(groups[i]), len(groups[j])
        groups[i] = _side_by_side(groups[i], groups.pop(j), similar)
        mean = (sizes[0] * linkage[i] + sizes[1] * linkage[j]) / sum(sizes)
        linkage[i], linkage[:, i] = mean, mean
        linkage[j], linkage[:, j], linkage[i, i] = 0, 0, 0
    return sorted(groups.values(), key=lambda group: (-len(group), group[0]))


def _side_by_side(one: list[int], other: list[int], similar: NDArray[np.float64]) -> list[int]:
    ways = [(a, b) for a in (one, one[::-1]) for b in (other, other[::-1])]
    left, right = max(ways, key=lambda way: similar[way[0][-1], way[1][0]])
    return left + right
