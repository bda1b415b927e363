from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from experiments.alternating import build_up
from mvit_video.models.families.alternet.net import alternation


def test_attention_goes_in_from_the_end_and_stops_where_it_no_longer_helps() -> None:
    worth = {
        (0, 0, 0, 0): 70, (0, 0, 0, 1): 71, (0, 0, 0, 2): 72, (0, 0, 1, 2): 73, (0, 0, 2, 2): 72.9, (0, 1, 1, 2): 74,
        (0, 2, 1, 2): 73, (1, 1, 1, 2): 74,
    }  # fmt: skip
    steps = build_up(worth.__getitem__, (3, 4, 6, 4))
    assert [step.num_pairs for step in steps] == list(worth)
    assert [step.is_kept for step in steps] == [True, True, True, True, False, True, False, False]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_every_net_tried_can_be_built_and_each_that_is_kept_is_better(depths: list[int], random: object) -> None:
    steps = build_up(lambda pairs: random.random(), depths)  # type: ignore[attr-defined]
    for step in steps:
        assert [len(alternation(*stage)) for stage in zip(depths, step.num_pairs, strict=True)] == depths
    kept = [step for step in steps if step.is_kept]
    assert all(later.score > earlier.score for earlier, later in pairwise(kept))
    assert max(step.score for step in steps) == kept[-1].score


def test_a_net_that_every_attention_helps_is_full_of_it() -> None:
    assert build_up(lambda pairs: sum(pairs), (3, 4, 6, 4))[-1].num_pairs == (1, 2, 3, 2)
