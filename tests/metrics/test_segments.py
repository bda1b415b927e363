"""Worked examples of ActivityNet's rule, and its independent statement on random segments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_video.metrics.segments import average_precision, mean_average_precision

TEN = [("v", 0, 10, "a")]


@pytest.mark.parametrize(
    ("truth", "predicted", "tiou", "expected"),
    [
        pytest.param(TEN, [("v", 0, 10, "a", 0.9), ("v", 0, 10, "a", 0.8)], 0.5, 1, id="a late duplicate is free"),
        pytest.param(TEN, [("v", 0, 10, "a", 0.9), ("w", 0, 10, "a", 0.95)], 0.5, 0.5, id="a video without truth"),
        pytest.param(TEN, [("v", 50, 60, "a", 0.9), ("v", 0, 10, "a", 0.8)], 0.5, 0.5, id="a miss first"),
        pytest.param(
            [*TEN, ("v", 20, 30, "a")],
            [("v", 0, 10, "a", 0.9), ("v", 50, 60, "a", 0.8), ("v", 20, 30, "a", 0.7)],
            0.5,
            0.5 + 0.5 * 2 / 3,
            id="hit, miss, hit",
        ),
        pytest.param(
            [*TEN, ("v", 2, 12, "a")], [("v", 0, 10, "a", 0.9), ("v", 0, 10, "a", 0.8)], 0.5, 1, id="the second best"
        ),
        pytest.param(
            [*TEN, ("v", 2, 12, "a")], [("v", 0, 10, "a", 0.9), ("v", 0, 10, "a", 0.8)], 0.7, 0.5, id="beyond reach"
        ),
        pytest.param(TEN, [("v", 0, 5, "a", 0.9)], 0.5, 1, id="equality counts"),
        pytest.param(TEN, [("v", 0, 5, "a", 0.9)], 0.55, 0, id="just below"),
        pytest.param([*TEN, ("v", 0, 10, "b")], [("v", 0, 10, "a", 0.9)], 0.5, 0.5, id="a class never predicted"),
        pytest.param(TEN, [("v", 0, 10, "a", 0.5), ("v", 0, 10, "b", 0.9)], 0.5, 1, id="a class without truth"),
        pytest.param(TEN, [("v", 0, 8, "a", 0.9)], np.arange(0.5, 1, 0.05), 0.7, id="0.8000000000000003 is 0.8"),
        pytest.param(TEN, [("v", 0, 8, "a", 0.9)], np.linspace(0.5, 0.95, 10), 0.7, id="ten thresholds"),
        pytest.param(
            [*TEN, ("w", 0, 10, "a")],
            [("v", 0, 10, "a", 0.9), ("v", 0, 10, "a", 0.8), ("w", 0, 10, "a", 0.7)],
            0.5,
            0.5 + 0.5 * 2 / 3,
            id="a duplicate before another hit costs",
        ),
        pytest.param([("v", 3, 3, "a")], [("v", 3, 3, "a", 0.9)], 0.5, 0, id="a segment of no length finds nothing"),
        pytest.param(TEN, [], 0.5, 0, id="no prediction"),
    ],
)
def test_worked_examples(truth: list, predicted: list, tiou: float, expected: float) -> None:
    assert mean_average_precision(predicted, truth, tiou) == pytest.approx(expected)


def stated_rule(predicted: list, truth: list, tiou: float) -> float:
    """The rule once more, in the order in which ActivityNet's text has it, one prediction at a time."""
    values = []
    for label in {row[3] for row in truth}:
        own = [row for row in truth if row[3] == label]
        free = set(range(len(own)))
        ranks = []
        for video, start, end, _, _ in sorted((p for p in predicted if p[3] == label), key=lambda p: -p[4]):
            best = []
            for place, (other, first, last, _) in enumerate(own):
                if other == video:
                    shared = max(0, min(end, last) - max(start, first))
                    best.append((shared / (end - start + last - first - shared), -place))
            hit = next(
                (-place for overlap, place in sorted(best, reverse=True) if overlap >= tiou and -place in free), None
            )
            ranks.append(hit is not None)
            free.discard(-1 if hit is None else hit)
        points = [(sum(ranks[:n]) / n, sum(ranks[:n]) / len(own)) for n in range(1, len(ranks) + 1)]
        area, reached = 0.0, 0.0
        for n, (_, recall) in enumerate(points):
            area += (recall - reached) * max(precision for precision, _ in points[n:])
            reached = recall
        values.append(area)
    return sum(values) / len(values)


whole = st.integers(0, 12)
span = st.tuples(st.sampled_from("vwx"), whole, st.integers(1, 8), st.sampled_from("ab")).map(
    lambda row: (row[0], row[1], row[1] + row[2], row[3])
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(span, min_size=1, max_size=8),
    st.lists(span, max_size=14).flatmap(lambda rows: st.permutations(range(len(rows))).map(lambda o: (rows, o))),
    st.sampled_from([0.3, 0.4, 0.5, 0.6, 0.75, 1.0]),
)
def test_random_segments_agree_with_the_rule_stated_again(truth: list, ranked: tuple, tiou: float) -> None:
    rows, order = ranked
    predicted = [(*row, 1 - place / 100) for row, place in zip(rows, order, strict=True)]
    assert mean_average_precision(predicted, truth, tiou) == pytest.approx(
        stated_rule(predicted, truth, tiou), abs=1e-12
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(span, min_size=1, max_size=8, unique=True))
def test_the_truth_predicted_is_perfect_and_order_does_not_matter(truth: list) -> None:
    predicted = [(*row, 1.0) for row in reversed(truth)]
    thresholds = (0.3, 0.5, 0.95)
    assert mean_average_precision(predicted, truth, thresholds) == 1
    assert {label: list(row) for label, row in average_precision(predicted, truth, thresholds).items()} == {
        label: [1, 1, 1] for label in {row[3] for row in truth}
    }


def test_bad_rows_and_thresholds_are_named() -> None:
    with pytest.raises(ValueError, match="end after it starts, got 5 to 3 in video 'v'"):
        mean_average_precision([("v", 5, 3, "a", 0.9)], TEN)
    with pytest.raises(ValueError, match="got 50"):
        mean_average_precision([], TEN, 50)
    assert np.isnan(mean_average_precision([("v", 0, 1, "a", 0.9)], []))
