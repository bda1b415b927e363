"""Accuracy against the number of views, from one test."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mvit_video.metrics.accuracy import Ensemble, class_precision, combine, label_ranks, mean_known, share_within
from mvit_video.types import ViewSpec

Point = dict[str, float | int]


def accuracy_by_views(scores: Tensor, label: Tensor, views: ViewSpec, ensemble: Ensemble = "sum") -> list[Point]:
    """What fewer views of each video would have given.

    Each point has `num_clips`, `num_crops`, `num_views`, and `top1` and `top5`, or `mAP` of videos with several labels.
    Of K clips, k stand for a test with k: those nearest to even spacing, the middle one for k = 1. They start where the
    clips of such a test would wherever k - 1 divides K - 1, up to rounding to whole frames; elsewhere nearby.

    Args:
        scores: `(V, K * num_crops, C)`, as `combine` takes them, of videos with a known label.
        label: `(V,)`, or `(V, C)` with 1 at each class of a video.

    Source: MViT (arXiv:2104.11227) figure A.4, which tests anew for every number of clips.
    """
    points: list[Point] = []
    for fewer in fewer_views(views):
        chosen = chosen_views(views, fewer.num_clips, fewer.num_crops).tolist()
        probabilities = combine(scores, ensemble, multi_label=label.ndim == 2, views=chosen)
        point: Point = {"num_clips": fewer.num_clips, "num_crops": fewer.num_crops, "num_views": len(chosen)}
        if label.ndim == 2:
            point["mAP"] = float(mean_known(class_precision(probabilities, label)))
        else:
            ranks = label_ranks(probabilities, label)
            point |= {f"top{k}": float(share_within(ranks, k)) for k in (1, 5)}
        points.append(point)
    return points


def fewer_views(views: ViewSpec) -> list[ViewSpec]:
    """Any number of the clips, with the centre crop alone or all crops."""
    all_crops = sorted({1, views.num_crops})
    return [ViewSpec(clips, crops) for crops in all_crops for clips in range(1, views.num_clips + 1)]


def chosen_views(views: ViewSpec, num_clips: int, num_crops: int) -> np.ndarray:
    """Numbers of the views that stand for a test with fewer; one crop is the centre.

    Args:
        num_crops: 1, or as many as there are.
    """
    spaced = np.linspace(0, views.num_clips - 1, num_clips) if num_clips > 1 else np.array([(views.num_clips - 1) / 2])
    clips = np.floor(spaced + 0.5).astype(np.int64)
    crops = np.arange(views.num_crops) if num_crops == views.num_crops else np.array([views.num_crops // 2])
    return (clips[:, None] * views.num_crops + crops).ravel()
