import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_video.metrics.ranking import area_under_precision, by_score


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_without_missed_truth_a_precision_that_never_rises_gives_the_area_of_scikit_learn(hits: list[bool]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    if not any(hits):
        return
    # scikit-learn's curve has no envelope: only rankings whose precision never rises from the right agree
    ordered = np.sort(np.array(hits))[::-1]
    expected = metrics.average_precision_score(ordered, -np.arange(len(ordered)))
    assert area_under_precision(ordered, int(ordered.sum())) == pytest.approx(expected)


def test_a_ranking_worked_by_hand() -> None:
    # recall 1/2 at precision 1, recall 1 at precision 2/3
    assert area_under_precision(np.array([True, False, True]), 2) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    # a later hit of higher precision lifts the earlier one: 2/3 for both
    assert area_under_precision(np.array([False, True, True]), 2) == pytest.approx(2 / 3)
    assert area_under_precision(np.zeros(0, bool), 3) == 0


def test_equal_scores_keep_their_order_and_nan_is_refused() -> None:
    assert by_score([("a", 0.5), ("b", 0.9), ("c", 0.5)]) == [("b", 0.9), ("a", 0.5), ("c", 0.5)]
    with pytest.raises(ValueError, match=r"got NaN in \('a', nan\)"):
        by_score([("a", float("nan"))])
