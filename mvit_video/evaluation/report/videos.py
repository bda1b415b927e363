"""The scored videos of a test with their most probable classes.

Letters: V scored videos, C classes, G guesses.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvit_video.evaluation.report.run_files import RunFiles
from mvit_video.runs.predictions import in_words

NUM_GUESSES = 5

# a browser must open the page of any test
_MOST_VIDEOS = 30_000
_MOST_PATH_BYTES = 6_000_000
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class ScoredVideos:
    """The videos with a score, in the order of the predictions.

    Attributes:
        row: `(V,)` place in the predictions.
        labels: classes of each; none where unknown.
        guesses: `(V, G)` most probable classes; of equal ones the first comes first.
        probability: `(V, G)` of the guesses.
        own: probability of each label of a video.
        num_classes: of the model, or named classes when no video has a score.
    """

    row: NDArray[np.int64]
    labels: list[list[int]]
    guesses: NDArray[np.int64]
    probability: NDArray[np.float64]
    own: list[list[float]]
    num_classes: int

    @classmethod
    def of(cls, run: RunFiles) -> ScoredVideos:
        """Return the scored videos of a run."""
        probabilities = run.predictions.probabilities
        row = run.predictions.scored.nonzero()[0]
        labels = [run.predictions.labels[i] for i in row]
        guesses = np.empty((len(row), min(NUM_GUESSES, probabilities.shape[1])), np.int64)
        for start in range(0, len(row), _ROWS_AT_ONCE):  # the order of all scores at once could be gigabytes
            part = slice(start, start + _ROWS_AT_ONCE)
            guesses[part] = np.argsort(-probabilities[part], axis=1, kind="stable")[:, : guesses.shape[1]]
        return cls(
            row=row,
            labels=labels,
            guesses=guesses,
            probability=np.take_along_axis(probabilities, guesses, axis=1).astype(np.float64),
            own=[[float(probabilities[i, label]) for label in own] for i, own in enumerate(labels)],
            num_classes=probabilities.shape[1] or len(run.predictions.class_names or ()),
        )

    def __len__(self) -> int:
        return len(self.row)

    @property
    def first_guess(self) -> NDArray[np.int64]:
        """`(V,)` most probable class."""
        return self.guesses[:, :1].reshape(-1)  # there may be no video, and so no guess

    @cached_property
    def wrong(self) -> NDArray[np.bool_]:
        """`(V,)` whether the prediction is none of the labels; false where they are unknown."""
        pairs = zip(self.labels, self.first_guess.tolist(), strict=True)
        return np.array([bool(own) and guess not in own for own, guess in pairs], dtype=bool)

    @cached_property
    def most_confident(self) -> NDArray[np.int64]:
        """`(V,)` all videos, wrong ones first, both by falling probability of the prediction."""
        return np.lexsort((-self.probability[:, 0], ~self.wrong)) if len(self) else np.empty(0, np.int64)


def spread_over_pairs(videos: ScoredVideos, rows: list[int], most: int) -> list[int]:
    """Choose videos from as many pairs of label and prediction as there are, keeping their order.

    Args:
        rows: videos with a label, the most interesting first.
    """
    seen: Counter[tuple[tuple[int, ...], int]] = Counter()
    rounds = []
    for i in rows:
        pair = tuple(videos.labels[i]), int(videos.first_guess[i])
        rounds.append(seen[pair])
        seen[pair] += 1
    chosen = sorted(range(len(rows)), key=lambda place: (rounds[place], place))[:most]
    return [rows[place] for place in sorted(chosen)]


def listed_videos(videos: ScoredVideos, run: RunFiles) -> NDArray[np.int64]:
    """Return the videos that the page lists, in order: all, or of very many the most confident mistakes."""
    first = videos.most_confident[:_MOST_VIDEOS]
    num_bytes = np.cumsum([len(in_words(run.predictions.keys[videos.row[i]]).encode()) for i in first])
    return np.sort(first[: int(np.searchsorted(num_bytes, _MOST_PATH_BYTES, side="right"))])


def as_columns(videos: ScoredVideos, run: RunFiles, listed: NDArray[np.int64]) -> dict[str, list[Any]]:
    """Return the listed videos for the scripts of the page, probabilities in ten thousandths."""
    return {
        "path": [in_words(run.predictions.keys[videos.row[i]]) for i in listed],
        "labels": [videos.labels[i] for i in listed],
        "own": [[round(1e4 * value) for value in videos.own[i]] for i in listed],
        "guesses": videos.guesses[listed].tolist(),
        "probability": np.rint(1e4 * videos.probability[listed]).astype(int).tolist(),
    }
