"""Clips with their targets, as in testing or in training, and the scores of a net on them.

Letters: B clips, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from mvit_video.analysis.adapter import evaluating
from mvit_video.data import VideoTable
from mvit_video.data.clips.mixing import Mixing
from mvit_video.data.clips.views import Views
from mvit_video.data.dataset import VideoDataset, collate
from mvit_video.metrics.accuracy import is_scored
from mvit_video.types import ConfigError, MVitVideoError


class Batch(NamedTuple):
    """Clips and the share of each class in them: 1 for the label, less where clips are mixed."""

    clip: Float[Tensor, "B 3 T H W"]
    target: Float[Tensor, "B K"]


class Score(NamedTuple):
    """Scores of a net.

    Attributes:
        loss: mean negative log-likelihood of a clip.
        top1: percent of clips whose most probable class has the largest share.
    """

    loss: float
    top1: float


def score(model: nn.Module, batches: Iterable[Batch]) -> Score:
    """Return loss and accuracy over all clips, in eval mode."""
    with evaluating(model):
        return score_logits(model, on_device(model, batches))


@torch.no_grad()
def score_logits(forward: Callable[[Tensor], Tensor], batches: Iterable[Batch]) -> Score:
    """Return loss and accuracy of a function from clips to logits."""
    loss, right, count = 0.0, 0, 0
    for clip, target in batches:
        logits = forward(clip)
        loss += float(F.cross_entropy(logits, target, reduction="sum"))
        right += int(((logits.argmax(dim=1) == target.argmax(dim=1)) & is_scored(logits)).sum())
        count += len(clip)
    return Score(loss / count, 100 * right / count)


def on_device(model: nn.Module, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield batches on the device and in the precision of the parameters of a net."""
    parameter = next(model.parameters())
    for clip, target in batches:
        yield Batch(clip.to(parameter), target.to(parameter))


@dataclass(frozen=True)
class TrainingTarget:
    """Targets of training.

    Attributes:
        mixing: mixup and cutmix; None for none.
        label_smoothing: share of the target spread over all classes.
    """

    mixing: Mixing | None = None
    label_smoothing: float = 0.0


def choose_rows(table: VideoTable, num_videos: int, seed: int, *, labelled: bool) -> NDArray[np.int64]:
    """Return rows of random videos of a table.

    Args:
        labelled: only videos with one known label.

    Raises:
        ConfigError: the table has none.
    """
    if labelled and table.is_multilabel:
        raise ConfigError("the annotations have several labels per video; choose studies that need no labels")
    rows = np.flatnonzero(table.labels >= 0) if labelled else np.arange(len(table))
    if not len(rows):
        raise ConfigError(f"the annotations have no video{' with a known label' if labelled else ''}")
    return np.random.default_rng(seed).permutation(rows)[:num_videos]


def read_batches(
    table: VideoTable,
    views: Views,
    rows: Sequence[int] | NDArray[np.int64],
    *,
    num_classes: int,
    batch_size: int,
    seed: int = 0,
    target: TrainingTarget = TrainingTarget(),
) -> list[Batch]:
    """Return one view of each video, in batches whose sizes differ by at most one; unreadable videos are skipped.

    Args:
        num_classes: of the net.
        target: changes of the labels; the default is that of a test.

    Raises:
        ConfigError: a label is not a class of the net.
        MVitVideoError: no video can be read.
    """
    dataset = VideoDataset(table, views, on_error="skip", seed=seed)
    batches: list[Batch] = []
    last_reason = ""
    for number, part in enumerate(np.array_split(np.asarray(rows), -(-len(rows) // batch_size))):
        found = collate([dataset[int(row)] for row in part])
        last_reason = found.failures[-1].reason if found.failures else last_reason
        if not len(found.clip):
            continue
        if found.label.ndim == 1:
            if int(found.label.max()) >= num_classes:
                raise ConfigError(f"the annotations have label {int(found.label.max())}, the net {num_classes} classes")
            label = F.one_hot(found.label.clamp(min=0), num_classes).float()
        else:
            label = torch.zeros(len(found.clip), num_classes)  # for studies without labels
        share = label * (1 - target.label_smoothing) + target.label_smoothing / num_classes
        clip = found.clip
        if target.mixing is not None:
            clip, share = target.mixing(clip, share, np.random.default_rng([seed, number]))
        batches.append(Batch(clip, share))
    if not batches:
        raise MVitVideoError(f"none of the {len(rows)} videos can be read; the last: {last_reason}")
    return batches
