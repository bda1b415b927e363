"""Training of nets small enough for one CPU thread, from tensors in memory.

Letters: N examples, T frames, S pixels of a side.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mvit_video.analysis import Batch
from mvit_video.analysis.batches import Score, score
from mvit_video.nn import tune_for_cpu
from mvit_video.nn.position import JointPosition, RelativePosition, SeparablePosition
from mvit_video.training.parameters import decay_groups
from mvit_video.training.schedule import Schedule

_EVALUATION_BATCH = 80
Net = TypeVar("Net", bound=nn.Module)


class Examples(NamedTuple):
    """Clips with a margin around the crop, and their classes.

    Attributes:
        crop_size: pixels of a random crop in training and of the centre crop in evaluation.
    """

    clip: Float[Tensor, "N 3 T S S"]
    label: Int[Tensor, " N"]
    num_classes: int
    crop_size: int

    def batches(self, size: int = _EVALUATION_BATCH) -> list[Batch]:
        """Return all examples in order, centre crops."""
        start = (self.clip.shape[-1] - self.crop_size) // 2
        centre = self.clip[..., start : start + self.crop_size, start : start + self.crop_size]
        target = F.one_hot(self.label, self.num_classes).float()
        return [Batch(*pair) for pair in zip(centre.split(size), target.split(size), strict=True)]

    def drawn(self, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return some examples, each with a random crop."""
        room = self.clip.shape[-1] - self.crop_size + 1
        crops = [
            self.clip[row, ..., y : y + self.crop_size, x : x + self.crop_size]
            for row, (y, x) in zip(rows.tolist(), rng.integers(room, size=(len(rows), 2)).tolist(), strict=True)
        ]
        return Batch(torch.stack(crops), F.one_hot(self.label[torch.from_numpy(rows)], self.num_classes).float())


class Split(NamedTuple):
    """Examples for training and for validation."""

    train: Examples
    val: Examples


@dataclass(frozen=True)
class Recipe:
    """Recipe of a training: AdamW, a linear warm-up of one epoch, then half a cosine."""

    num_epochs: int
    learning_rate: float
    batch_size: int = 16
    weight_decay: float = 0.05
    label_smoothing: float = 0.0


class Epoch(NamedTuple):
    """Mean training loss, validation loss and accuracy of an epoch.

    Attributes:
        top1: percent.
        cpu_seconds: of training alone, since its start.
    """

    epoch: int
    train_loss: float
    val_loss: float
    top1: float
    cpu_seconds: float


def fit(
    net: nn.Module, split: Split, recipe: Recipe, seed: int, after_epoch: Callable[[int], object] = lambda epoch: None
) -> list[Epoch]:
    """Train a net and score it after every epoch; the result depends only on the net and the seed.

    Args:
        after_epoch: called with the number of finished epochs.
    """
    tune_for_cpu(net)
    optimizer = torch.optim.AdamW(decay_groups(net), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = Schedule(warmup_epochs=min(1.0, recipe.num_epochs / 2))
    rng = np.random.default_rng(seed)
    epochs: list[Epoch] = []
    cpu_seconds = 0.0
    for epoch in range(recipe.num_epochs):
        start, total = time.process_time(), 0.0
        order = rng.permutation(len(split.train.clip))
        parts = np.array_split(order, max(1, len(order) // recipe.batch_size))
        for step, rows in enumerate(parts):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * schedule.factor(epoch + step / len(parts), recipe.num_epochs)
            total += len(rows) * _train_step(net, split.train.drawn(rows, rng), optimizer, recipe.label_smoothing)
        cpu_seconds += time.process_time() - start
        found = score(net, split.val.batches())
        epochs.append(Epoch(epoch + 1, total / len(order), found.loss, found.top1, cpu_seconds))
        after_epoch(epoch + 1)
    return epochs


@torch.no_grad()
def drawn_for_width(net: Net) -> Net:
    """Initialise a net again for few channels: linear layers by their inputs, position tables with 0.5.

    The published 0.02 is for 768 channels. At 32 channels it makes attention and MLPs almost 0, and tables far below
    the tokens: nets with only a table stayed at chance on the order of frames for 60 epochs.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, (SeparablePosition, JointPosition, RelativePosition)):
            for rows in module.parameters():
                nn.init.normal_(rows, std=0.5)
    return net


def top1_in_order(net: nn.Module, examples: Examples, order: str, seed: int) -> Score:
    """Score a net on clips whose frames are `shuffled`, each clip differently, or `reversed`."""
    clip = examples.clip.flip(2)
    if order == "shuffled":
        keys = torch.rand(len(clip), clip.shape[2], generator=torch.Generator().manual_seed(seed))
        clip = torch.stack([one[:, frames] for one, frames in zip(examples.clip, keys.argsort(dim=1), strict=True)])
    return score(net, examples._replace(clip=clip).batches())


def _train_step(net: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer, label_smoothing: float) -> float:
    net.train()
    loss = F.cross_entropy(net(batch.clip), batch.target, label_smoothing=label_smoothing)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())
