"""Clips with their targets, and how well a net does on them.

Letters: B clips, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.analysis.adapter import evaluating
from mvit_video.metrics.accuracy import is_scored


class Batch(NamedTuple):
    """Clips and the share that each class has in them: 1 for the label, less where clips are mixed."""

    clip: Float[Tensor, "B 3 T H W"]
    target: Float[Tensor, "B K"]


class Score(NamedTuple):
    """How well a net does.

    Attributes:
        loss: mean negative log-likelihood of a clip.
        top1: percent of clips whose most probable class is that of the largest share.
    """

    loss: float
    top1: float


def score(model: nn.Module, batches: Iterable[Batch]) -> Score:
    """Loss and accuracy over all clips, in eval mode."""
    with evaluating(model):
        return score_logits(model, on_device(model, batches))


@torch.no_grad()
def score_logits(forward: Callable[[Tensor], Tensor], batches: Iterable[Batch]) -> Score:
    """Loss and accuracy of a function from clips to logits."""
    loss, right, count = 0.0, 0, 0
    for clip, target in batches:
        logits = forward(clip)
        loss += float(F.cross_entropy(logits, target, reduction="sum"))
        right += int(((logits.argmax(dim=1) == target.argmax(dim=1)) & is_scored(logits)).sum())
        count += len(clip)
    return Score(loss / count, 100 * right / count)


def on_device(model: nn.Module, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches where the parameters of the net are, in their precision."""
    parameter = next(model.parameters())
    for clip, target in batches:
        yield Batch(clip.to(parameter), target.to(parameter))
