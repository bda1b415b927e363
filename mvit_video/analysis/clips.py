"""Clips of a data set for a study: as they are tested, or as they are trained on.

Letters: B clips, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mvit_video.analysis.batches import Batch
from mvit_video.data import VideoTable
from mvit_video.data.clips.mixing import Mixing
from mvit_video.data.clips.views import Views
from mvit_video.data.dataset import VideoDataset, collate
from mvit_video.types import ConfigError, MVitVideoError


@dataclass(frozen=True)
class TrainingTarget:
    """What training makes of the labels of a batch.

    Attributes:
        mixing: mixup and cutmix; None for none.
        label_smoothing: share of the target spread over all classes.
    """

    mixing: Mixing | None = None
    label_smoothing: float = 0.0


def choose_rows(table: VideoTable, num_videos: int, seed: int, *, labelled: bool) -> NDArray[np.int64]:
    """Rows of some videos of a table, drawn at random.

    Args:
        labelled: only videos with one known label.

    Raises:
        ConfigError: there is none.
    """
    if labelled and table.is_multilabel:
        raise ConfigError("the annotations give several labels per video; only studies that need no label can be made")
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
    """One view of each video, in batches that differ by one clip at most; videos that cannot be read are left out.

    Args:
        num_classes: of the net.
        target: none of it for clips as they are tested.

    Raises:
        ConfigError: a label is none of the net's classes.
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
            label = torch.zeros(len(found.clip), num_classes)  # of studies that need none
        share = label * (1 - target.label_smoothing) + target.label_smoothing / num_classes
        clip = found.clip
        if target.mixing is not None:
            clip, share = target.mixing(clip, share, np.random.default_rng([seed, number]))
        batches.append(Batch(clip, share))
    if not batches:
        raise MVitVideoError(f"none of the {len(rows)} videos can be read; the last: {last_reason}")
    return batches
