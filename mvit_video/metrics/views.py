"""Scores of views joined into scores of videos, and the accuracy that fewer views would have given.

Letters: V videos, K views of a video, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mvit_video.metrics.accuracy import class_precision, label_ranks, mean_known, share_within
from mvit_video.types import ViewSpec

Ensemble = Literal["sum", "logit_mean", "max"]
Point = dict[str, float | int]


def join_views(
    scores: Tensor, ensemble: Ensemble, *, multi_label: bool = False, views: Sequence[int] | None = None
) -> Tensor:
    """Return probabilities of each video, `(V, C)`, from those of its views, `(V, K, C)`.

    Args:
        scores: probabilities, or for "logit_mean" logits.
        ensemble: "sum" is the mean of the probabilities, which ranks classes as their sum does; "logit_mean" the
            softmax, or sigmoid, of the mean logits; "max" the largest probability of each class, scaled to a sum of 1
            where a video has one label.
        views: views to use; None is all.

    Source: SlowFast `TestMeter`, whose single precision sum depends on the order of the views; this one is in double
    precision and in the order of the views (tests/metrics/test_views.py).
    """
    chosen = range(scores.shape[1]) if views is None else views
    # view by view: a copy of all of them, or of all in double precision, could be gigabytes
    if ensemble == "max":
        top = reduce(torch.maximum, (scores[:, view] for view in chosen))
        return top.clone() if multi_label else top / top.sum(dim=1, keepdim=True)
    total = torch.zeros(scores.shape[0], scores.shape[2], dtype=torch.float64)
    for view in chosen:
        total += scores[:, view]
    mean = total / len(chosen)
    if ensemble == "logit_mean":
        mean = mean.sigmoid() if multi_label else mean.softmax(dim=1)
    return mean.float()


def accuracy_by_views(scores: Tensor, label: Tensor, views: ViewSpec, ensemble: Ensemble = "sum") -> list[Point]:
    """Return the accuracy that fewer views of each video would have given.

    Each point has `num_clips`, `num_crops`, `num_views`, and `top1` and `top5`, or `mAP` of videos with several labels.
    Of K clips, the k nearest to even spacing stand for a test with k; the middle one for k = 1. They start where the
    clips of such a test would, up to rounding to whole frames, if k - 1 divides K - 1; otherwise nearby.

    Args:
        scores: `(V, K * num_crops, C)`, as `join_views` takes them, of videos with a known label.
        label: `(V,)`, or `(V, C)` with 1 at each class of a video.

    Source: MViT (arXiv:2104.11227) figure A.4, which tests again for every number of clips.
    """
    points: list[Point] = []
    for fewer in fewer_views(views):
        chosen = chosen_views(views, fewer.num_clips, fewer.num_crops).tolist()
        probabilities = join_views(scores, ensemble, multi_label=label.ndim == 2, views=chosen)
        point: Point = {"num_clips": fewer.num_clips, "num_crops": fewer.num_crops, "num_views": len(chosen)}
        if label.ndim == 2:
            point["mAP"] = float(mean_known(class_precision(probabilities, label)))
        else:
            ranks = label_ranks(probabilities, label)
            point |= {f"top{k}": float(share_within(ranks, k)) for k in (1, 5)}
        points.append(point)
    return points


def fewer_views(views: ViewSpec) -> list[ViewSpec]:
    """List the subsets of the views: any number of clips, with the centre crop or all crops."""
    all_crops = sorted({1, views.num_crops})
    return [ViewSpec(clips, crops) for crops in all_crops for clips in range(1, views.num_clips + 1)]


def chosen_views(views: ViewSpec, num_clips: int, num_crops: int) -> np.ndarray:
    """Return the numbers of the views of a test with fewer; one crop is the centre.

    Args:
        num_crops: 1, or as many as there are.
    """
    spaced = np.linspace(0, views.num_clips - 1, num_clips) if num_clips > 1 else np.array([(views.num_clips - 1) / 2])
    clips = np.floor(spaced + 0.5).astype(np.int64)
    crops = np.arange(views.num_crops) if num_crops == views.num_crops else np.array([views.num_crops // 2])
    return (clips[:, None] * views.num_crops + crops).ravel()


def describe_views(views: ViewSpec) -> str:
    """Return the views in words, such as "5 clips x 1 crop"."""
    clips, crops = views.num_clips, views.num_crops
    return f"{clips} clip{'s' * (clips != 1)} x {crops} crop{'s' * (crops != 1)}"
