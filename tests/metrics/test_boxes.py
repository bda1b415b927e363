"""Worked examples of AVA's rule, and its independent statement on random boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_video.metrics.boxes import mean_average_precision, overlaps

A = ("v", 902, 0, 0, 10, 10, "a")
MOVED = ("v", 902, 2, 0, 12, 10, "a")


def scored(row: tuple, score: float, **changes: object) -> tuple:
    names = ["video", "time", "x1", "y1", "x2", "y2", "label"]
    return *(changes.get(name, value) for name, value in zip(names, row, strict=True)), score


@pytest.mark.parametrize(
    ("truth", "predicted", "official", "slowfast"),
    [
        pytest.param([A], [scored(A, 0.9)], 1, 1, id="exact"),
        pytest.param([A], [scored(A, 0.3), scored(A, 0.9)], 1, 0.5, id="the worse row stands first"),
        pytest.param([A, MOVED], [scored(A, 0.9), scored(A, 0.8)], 0.5, 0.5, id="no second choice"),
        pytest.param([A], [scored(A, 0.9, time=903), scored(A, 0.8)], 1, 0.5, id="a frame without annotations"),
        pytest.param([A, (*A[:6], "b")], [scored(A, 0.9)], 0.5, 0.5, id="a class never predicted"),
        pytest.param([A], [scored(A, 0.9, y2=5)], 1, 1, id="exactly half"),
        pytest.param([A], [scored(A, 0.9, y2=4.9)], 0, 0, id="less than half"),
        pytest.param(
            [A, ("w", *A[1:])], [scored(A, 0.9), scored(A, 0.8, x1=5, x2=20), scored(A, 0.7, video="w")],
            0.5 + 0.5 * 2 / 3, 0.5 + 0.5 * 2 / 3, id="hit, miss, hit",
        ),
        pytest.param([A], [scored(A, 0.9, x2=0), scored(A, 0.8)], 1, 1, id="a box without area is ignored"),
        pytest.param([A], [scored(A, 0.9, time=902.0004)], 1, 1, id="times to the millisecond"),
    ],
)  # fmt: skip
def test_worked_examples(truth: list, predicted: list, official: float, slowfast: float) -> None:
    assert mean_average_precision(predicted, truth) == pytest.approx(official)
    assert mean_average_precision(predicted, truth, rule="slowfast") == pytest.approx(slowfast)


def test_frames_without_annotations_count_when_they_are_listed() -> None:
    predicted = [scored(A, 0.9, time=903), scored(A, 0.8)]
    assert mean_average_precision(predicted, [A], frames=[("v", 903)]) == 0.5


def test_excluded_frames_leave_both_sides() -> None:
    missed = ("v", 905, *A[2:])
    assert mean_average_precision([scored(A, 0.9)], [A, missed]) == 0.5
    assert mean_average_precision([scored(A, 0.9), scored(missed, 0.95)], [A, missed], excluded=[("v", 905)]) == 1


def test_classes_that_do_not_count_leave_both_sides() -> None:
    other = (*A[:6], "b")
    assert mean_average_precision([scored(A, 0.9)], [A, other], classes={"a"}) == 1


def test_only_the_best_boxes_of_a_frame_count() -> None:
    crowd = [scored((*A[:6], f"class {n}"), 0.9) for n in range(50)]
    truth = [A, *(row[:-1] for row in crowd)]
    assert mean_average_precision([*crowd, scored(A, 0.1)], truth) == pytest.approx(50 / 51)
    assert mean_average_precision([*crowd, scored(A, 0.1)], truth, max_per_frame=51) == 1


@pytest.mark.parametrize(("shift", "expected"), [(10 / 3, 0.5), (5, 1 / 3)])
def test_a_square_moved_along_one_axis(shift: float, expected: float) -> None:
    assert overlaps(np.array([[0, 0, 10, 10.0]]), np.array([[0, shift, 10, 10 + shift]])) == pytest.approx(expected)


def stated_rule(predicted: list, truth: list, iou: float) -> float:
    """The rule once more, one prediction at a time."""
    values = []
    for label in {row[6] for row in truth}:
        own = [row for row in truth if row[6] == label]
        taken, ranks = set(), []
        evaluated = {row[:2] for row in truth}
        for video, time, *box, _, _ in sorted((p for p in predicted if p[6] == label), key=lambda p: -p[7]):
            if (video, time) not in evaluated:
                continue
            best, where = -1.0, None
            for place, (other, when, x1, y1, x2, y2, _) in enumerate(own):
                width, height = min(box[2], x2) - max(box[0], x1), min(box[3], y2) - max(box[1], y1)
                shared = max(0, width) * max(0, height)
                area = (box[2] - box[0]) * (box[3] - box[1]) + (x2 - x1) * (y2 - y1) - shared
                if (other, when) == (video, time) and shared / area > best:
                    best, where = shared / area, place
            ranks.append(best >= iou and where not in taken)
            if best >= iou:
                taken.add(where)
        points = [(sum(ranks[:n]) / n, sum(ranks[:n]) / len(own)) for n in range(1, len(ranks) + 1)]
        steps = zip([0, *(recall for _, recall in points)], points, strict=False)
        values.append(
            sum((recall - last) * max(p for p, _ in points[n:]) for n, (last, (_, recall)) in enumerate(steps))
        )
    return sum(values) / len(values)


side = st.tuples(st.integers(0, 6), st.integers(1, 5))
box = st.tuples(st.sampled_from("vw"), st.sampled_from([902, 903]), side, side, st.sampled_from("ab")).map(
    lambda row: (row[0], row[1], row[2][0], row[3][0], sum(row[2]), sum(row[3]), row[4])
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(box, min_size=1, max_size=8),
    st.lists(box, max_size=14).flatmap(lambda rows: st.permutations(range(len(rows))).map(lambda o: (rows, o))),
    st.sampled_from([0.3, 0.5, 0.75]),
)
def test_random_boxes_agree_with_the_rule_stated_again(truth: list, ranked: tuple, iou: float) -> None:
    rows, order = ranked
    predicted = [(*row, 1 - place / 100) for row, place in zip(rows, order, strict=True)]
    assert mean_average_precision(predicted, truth, iou) == pytest.approx(stated_rule(predicted, truth, iou), abs=1e-12)


def test_bad_values_are_named() -> None:
    with pytest.raises(ValueError, match="got 50"):
        mean_average_precision([], [A], 50)
    with pytest.raises(ValueError, match="got NaN"):
        mean_average_precision([scored(A, float("nan"))], [A])
    assert np.isnan(mean_average_precision([scored(A, 0.9)], []))
