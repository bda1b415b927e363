"""Calibration of probabilities: likelihood, Brier score, reliability, and the temperature that improves it.

Letters: V videos with a known label, C classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mvit_video.metrics.accuracy import is_scored


class Bin(NamedTuple):
    """Videos whose most probable class has a probability in `[low, high)`; the last bin holds 1 too.

    Attributes:
        confidence: mean probability of the predicted class, None without videos.
        accuracy: share of right predictions, None without videos.
    """

    low: float
    high: float
    num_videos: int
    confidence: float | None
    accuracy: float | None


def reliability(probabilities: Tensor, label: Tensor, num_bins: int = 15) -> list[Bin]:
    """Return how often predictions are right, by their probability.

    torchmetrics puts a probability of 1 in a bin of its own, and does not return the bins.
    """
    confidence = probabilities.double().amax(dim=1)
    right = ((probabilities.argmax(dim=1) == label) & is_scored(probabilities)).double()
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64)
    place = (torch.bucketize(confidence, edges, right=True) - 1).clamp(max=num_bins - 1)
    counts = torch.bincount(place, minlength=num_bins)
    sums = [torch.bincount(place, weights=values, minlength=num_bins) for values in (confidence, right)]
    bins = []
    for i, count in enumerate(counts.tolist()):
        means = [float(total[i]) / count if count else None for total in sums]
        bins.append(Bin(float(edges[i]), float(edges[i + 1]), count, *means))
    return bins


def calibration_error(bins: list[Bin]) -> float:
    """Return the expected calibration error in percent: mean gap of accuracy and confidence, weighted by videos."""
    total = sum(one.num_videos for one in bins)
    if not total:
        return math.nan
    filled = [(one.num_videos, one.accuracy, one.confidence) for one in bins]
    gaps = [number * abs(right - sure) for number, right, sure in filled if right is not None and sure is not None]
    return 100 * sum(gaps) / total


def negative_log_likelihood(probabilities: Tensor, label: Tensor) -> Tensor:
    """Return the mean negative logarithm of the label's probability; not in percent.

    A probability of 0 counts as the smallest of single precision, which keeps the mean finite.
    """
    own = probabilities.gather(1, label[:, None]).double()
    return -own.clamp(min=torch.finfo(torch.float32).tiny).log().mean()


def brier_score(probabilities: Tensor, label: Tensor) -> Tensor:
    """Return the mean squared distance from the probabilities to the label, 0 to 2; not in percent."""
    own = probabilities.gather(1, label[:, None])[:, 0].double()
    return (probabilities.double().square().sum(dim=1) - 2 * own + 1).mean()


def fit_temperature(probabilities: Tensor, label: Tensor) -> float:
    """Return the temperature at which the labels are most likely, between 1/64 and 64.

    Args:
        probabilities: `(V, C)` of held-out videos, not of the videos to correct.
    """
    logits = _logits(probabilities)
    own = logits.gather(1, label[:, None])[:, 0]
    low, high = math.log(1 / 64), math.log(64)
    # the likelihood is convex in 1 / temperature: bisect by the sign of its slope
    for _ in range(32):
        middle = (low + high) / 2
        weights = (logits * math.exp(middle)).softmax(dim=1)
        if float((weights * logits).sum(dim=1).mean() - own.mean()) > 0:
            high = middle
        else:
            low = middle
    return math.exp(-(low + high) / 2)


def apply_temperature(probabilities: Tensor, temperature: float) -> Tensor:
    """Return the probabilities of logits divided by `temperature`; the ranking stays the same."""
    return (_logits(probabilities) / temperature).softmax(dim=1).float()


def _logits(probabilities: Tensor) -> Tensor:
    return probabilities.double().clamp(min=torch.finfo(torch.float32).tiny).log()
