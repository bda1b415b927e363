"""Accuracy and average precision of videos with scores and labels, in percent.

Letters: V videos, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

NO_RANK = torch.iinfo(torch.int64).max


def is_scored(scores: Tensor) -> Tensor:
    """Return whether all scores of each video, `(V, ...)`, are finite, `(V,)`; one with NaN or inf counts as failed."""
    return scores.flatten(1).isfinite().all(dim=1)


def label_ranks(probabilities: Tensor, label: Tensor) -> Tensor:
    """Return how many classes rank before each video's label, `(V,)`; ties rank in the order of the classes.

    A video with a non-finite score is never right: its rank is `NO_RANK`, beyond any number of classes.

    torchmetrics leaves the order of ties to `torch.topk`, which promises none.
    """
    own = probabilities.gather(1, label[:, None])
    before = torch.arange(probabilities.shape[1], device=label.device) < label[:, None]
    ranks = ((probabilities > own) | ((probabilities == own) & before)).sum(dim=1)
    return ranks.where(is_scored(probabilities), NO_RANK)


def share_within(ranks: Tensor, k: int) -> Tensor:
    """Return the percentage of videos whose label is among the `k` most probable classes."""
    return 100 * (ranks < k).double().mean()


def confusion(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Count the videos of each label and each prediction, `(C, C)`."""
    # slow to import: verbs that score nothing need not wait for it
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    return multiclass_confusion_matrix(prediction, label, num_classes, validate_args=False)


def class_accuracy(confused: Tensor) -> Tensor:
    """Return the percentage of right predictions in each class, `(C,)`; NaN for a class without a video.

    Args:
        confused: the confusion matrix.
    """
    return 100 * confused.diagonal().double() / confused.sum(dim=1)


def class_precision(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the average precision of each class, `(C,)`; NaN for a class that no video shows.

    A video with a non-finite score is never found in any class, which lowers the precision of its labels.

    Args:
        labels: `(V, C)`, 1 at each class of a video.
    """
    from torchmetrics.functional.classification import binary_average_precision  # slow to import

    precision = torch.full((probabilities.shape[1],), torch.nan, dtype=torch.float64)
    scored = is_scored(probabilities)
    for c in labels.any(dim=0).nonzero()[:, 0].tolist():
        shown = labels[scored, c].long()
        precision[c] = 0
        if shown.any():
            found = binary_average_precision(probabilities[scored, c].double(), shown, validate_args=False)
            precision[c] = found * shown.sum() / labels[:, c].sum()
    return 100 * precision


def mean_known(values: Tensor) -> Tensor:
    """Return the mean over the classes that have a value."""
    return values.nanmean()
