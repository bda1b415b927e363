"""Views joined as SlowFast does; fewer views from the scores of all."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mvit_video.data.sampling import uniform_clips
from mvit_video.metrics.accuracy import label_ranks, share_within
from mvit_video.metrics.views import Ensemble, accuracy_by_views, chosen_views, describe_views, join_views
from mvit_video.types import ClipSpec, ViewSpec

NUM_CLASSES, NUM_VIEWS = 6, 3


def make_scores(seed: int, num_videos: int, ties: bool) -> Tensor:
    """Probabilities, `(V, K, C)`; with ties, multiples of 1/8."""
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(NUM_CLASSES), (num_videos, NUM_VIEWS))
    return torch.from_numpy((np.round(probabilities * 8) / 8 if ties else probabilities).astype(np.float32))


views = st.builds(make_scores, st.integers(0, 10**6), st.integers(1, 12), st.booleans())


def slowfast(scores: Tensor, method: str) -> Tensor:
    """What SlowFast's test meter keeps of each video, view by view as they arrive."""
    kept = torch.full((len(scores), NUM_CLASSES), 0.0 if method == "sum" else -1e10)
    for place in np.random.default_rng(0).permutation(len(scores) * NUM_VIEWS):
        video, view = divmod(int(place), NUM_VIEWS)
        own = scores[video, view]
        kept[video] = kept[video] + own if method == "sum" else torch.max(kept[video], own)
    return kept


@given(views)
def test_sum_is_that_of_slowfast(scores: Tensor) -> None:
    torch.testing.assert_close(join_views(scores, "sum") * NUM_VIEWS, slowfast(scores, "sum"), rtol=1e-6, atol=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_sum_ranks_as_slowfast_does(seed: int, num_videos: int) -> None:
    """On multiples of 1/8, whose sums are exact in either precision, equal ones included."""
    scores = make_scores(seed, num_videos, ties=True)
    ranking = join_views(scores, "sum").argsort(dim=1, descending=True, stable=True)
    assert torch.equal(ranking, slowfast(scores, "sum").argsort(dim=1, descending=True, stable=True))


@given(views)
def test_max_of_several_labels_is_that_of_slowfast(scores: Tensor) -> None:
    assert torch.equal(join_views(scores, "max", multi_label=True), slowfast(scores, "max"))


@pytest.mark.parametrize("ensemble", ["sum", "logit_mean", "max"])
def test_probabilities_of_one_label_sum_to_one(ensemble: Ensemble) -> None:
    torch.testing.assert_close(join_views(make_scores(1, 5, ties=False), ensemble).sum(dim=1), torch.ones(5))


def test_mean_of_logits() -> None:
    logits = torch.tensor([[[0.0, 2.0], [2.0, -1.0]]])
    mean = torch.tensor([[1.0, 0.5]])
    torch.testing.assert_close(join_views(logits, "logit_mean"), mean.softmax(dim=1))
    torch.testing.assert_close(join_views(logits, "logit_mean", multi_label=True), mean.sigmoid())


@pytest.mark.parametrize(
    ("views", "words"), [(ViewSpec(5, 1), "5 clips x 1 crop"), (ViewSpec(1, 3), "1 clip x 3 crops")]
)
def test_views_in_words(views: ViewSpec, words: str) -> None:
    assert describe_views(views) == words


@pytest.mark.parametrize(
    ("views", "num_clips", "num_crops", "chosen"),
    [
        (ViewSpec(5, 1), 1, 1, [2]),
        (ViewSpec(5, 1), 3, 1, [0, 2, 4]),
        (ViewSpec(10, 1), 4, 1, [0, 3, 6, 9]),
        (ViewSpec(3, 3), 1, 1, [4]),
        (ViewSpec(3, 3), 2, 1, [1, 7]),
        (ViewSpec(3, 3), 2, 3, [0, 1, 2, 6, 7, 8]),
    ],
)
def test_views_that_stand_for_fewer(views: ViewSpec, num_clips: int, num_crops: int, chosen: list[int]) -> None:
    assert chosen_views(views, num_clips, num_crops).tolist() == chosen


@pytest.mark.parametrize(("num_clips", "fewer"), [(5, 1), (5, 2), (5, 3), (10, 2), (10, 4), (7, 3)])
def test_they_start_where_a_test_with_fewer_does(num_clips: int, fewer: int) -> None:
    clip = ClipSpec(16, 4)
    all_starts = uniform_clips(300, 30, clip, num_clips)[:, 0]
    starts = all_starts[chosen_views(ViewSpec(num_clips, 1), fewer, 1)]
    assert np.abs(starts - uniform_clips(300, 30, clip, fewer)[:, 0]).max() <= num_clips - 1


def test_points_equal_tests_of_these_views() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(40, 6, 7, generator=generator).softmax(dim=2)
    label = torch.randint(7, (40,), generator=generator)
    points = accuracy_by_views(scores, label, ViewSpec(2, 3))
    assert [(point["num_clips"], point["num_crops"]) for point in points] == [(1, 1), (2, 1), (1, 3), (2, 3)]
    for point, chosen in zip(points, ([4], [1, 4], [3, 4, 5], range(6)), strict=True):
        ranks = label_ranks(join_views(scores[:, list(chosen)], "sum"), label)
        assert point["num_views"] == len(chosen)
        assert point["top1"] == float(share_within(ranks, 1))
        assert point["top5"] == float(share_within(ranks, 5))


def test_several_labels_give_mean_precision() -> None:
    scores = torch.rand(40, 3, 7, generator=torch.Generator().manual_seed(0))
    points = accuracy_by_views(scores, (scores.amax(dim=1) > 0.8).to(torch.uint8), ViewSpec(3, 1), "max")
    assert [point["mAP"] == 100 for point in points] == [False, False, True]
