"""Numbers about videos with scores and labels, in percent unless said otherwise.

Letters: V videos with a known label, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision, multiclass_confusion_matrix


def label_ranks(probabilities: Tensor, label: Tensor) -> Tensor:
    """How many classes stand before each video's label, `(V,)`; equal probabilities rank in the order of the classes.

    torchmetrics leaves the order of equal ones to `torch.topk`, which promises none.
    """
    own = probabilities.gather(1, label[:, None])
    before = torch.arange(probabilities.shape[1]) < label[:, None]
    return ((probabilities > own) | ((probabilities == own) & before)).sum(dim=1)


def share_within(ranks: Tensor, k: int) -> Tensor:
    """Videos whose label is among the `k` most probable classes."""
    return 100 * (ranks < k).double().mean()


def confusion(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Number of videos of each label and each prediction, `(C, C)`."""
    return multiclass_confusion_matrix(prediction, label, num_classes, validate_args=False)


def class_accuracy(confused: Tensor) -> Tensor:
    """Videos of each class that were predicted right, `(C,)`; NaN for a class without a video.

    Args:
        confused: the confusion matrix.
    """
    return 100 * confused.diagonal().double() / confused.sum(dim=1)


def class_precision(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Average precision of each class over the videos, `(C,)`; NaN for a class that no video shows.

    Args:
        labels: `(V, C)`, 1 at each class of a video.
    """
    precision = torch.full((probabilities.shape[1],), torch.nan, dtype=torch.float64)
    for c in labels.any(dim=0).nonzero()[:, 0].tolist():
        precision[c] = binary_average_precision(probabilities[:, c], labels[:, c].long(), validate_args=False)
    return 100 * precision


def mean_known(values: Tensor) -> Tensor:
    """Mean over the classes that have a value."""
    return values.nanmean()


def negative_log_likelihood(probabilities: Tensor, label: Tensor) -> Tensor:
    """Mean of minus the logarithm of the label's probability; not in percent.

    A probability of 0 counts as the smallest of single precision, which keeps the mean finite.
    """
    own = probabilities.gather(1, label[:, None]).double()
    return -own.clamp(min=torch.finfo(torch.float32).tiny).log().mean()


def brier_score(probabilities: Tensor, label: Tensor) -> Tensor:
    """Mean over the videos of the squared distance from the probabilities to the label, 0 to 2; not in percent."""
    own = probabilities.gather(1, label[:, None])[:, 0].double()
    return (probabilities.double().square().sum(dim=1) - 2 * own + 1).mean()
