"""Fewer views from the scores of all: which ones stand for a test with fewer, and what they give."""

import numpy as np
import pytest
import torch

from mvit_video.data.sampling import uniform_clips
from mvit_video.metrics.accuracy import combine, label_ranks, share_within
from mvit_video.metrics.by_views import accuracy_by_views, chosen_views
from mvit_video.types import ClipSpec, ViewSpec


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
        ranks = label_ranks(combine(scores[:, list(chosen)], "sum"), label)
        assert point["num_views"] == len(chosen)
        assert point["top1"] == float(share_within(ranks, 1))
        assert point["top5"] == float(share_within(ranks, 5))


def test_several_labels_give_mean_precision() -> None:
    scores = torch.rand(40, 3, 7, generator=torch.Generator().manual_seed(0))
    points = accuracy_by_views(scores, (scores.amax(dim=1) > 0.8).to(torch.uint8), ViewSpec(3, 1), "max")
    assert [point["mAP"] == 100 for point in points] == [False, False, True]
