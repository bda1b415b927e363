"""Training with measurements of the curvature of the loss."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from torch import nn

from experiments.output import Heartbeat
from experiments.training import Recipe, Split, fit
from mvit_video.analysis import Batch, HessianSettings, hessian
from mvit_video.analysis.layers import summary_of

EARLY_EPOCH = 3
_SETTINGS = HessianSettings(num_values=5, max_steps=30)
_CLIPS_PER_BATCH = 16


class Measured(NamedTuple):
    """A quantity and its value."""

    quantity: str
    value: float


def fit_and_measure(
    net: nn.Module,
    split: Split,
    recipe: Recipe,
    seed: int,
    heartbeat: Heartbeat,
    num_batches: int,
    epochs: Collection[int],
) -> list[Measured]:
    """Train a net, and measure the curvature of its loss after some epochs, and accuracy and loss at the end.

    Args:
        num_batches: batches of training examples for the curvature, the same after every epoch.
    """
    rng = np.random.default_rng(seed)
    num_clips = len(split.train.clip)
    batches = [split.train.drawn(rng.integers(num_clips, size=_CLIPS_PER_BATCH), rng) for _ in range(num_batches)]
    found: list[Measured] = []

    def after_epoch(epoch: int) -> None:
        heartbeat()
        if epoch in epochs:
            found.extend(_curvature(net, batches, f"epoch {epoch}"))

    last = fit(net, split, recipe, seed, after_epoch)[-1]
    return [*found, Measured("top1", last.top1), Measured("training loss", last.train_loss)]


def _curvature(net: nn.Module, batches: list[Batch], when: str) -> list[Measured]:
    values = hessian(net, batches, _SETTINGS)
    summary = summary_of(values)
    return [
        Measured(f"{when}: share of negative eigenvalues", summary["nep"]["value"]),
        Measured(f"{when}: mean positive eigenvalue", summary["ape"]["value"]),
        Measured(f"{when}: largest magnitude", float(np.abs(values["eigenvalue"].to_numpy()).max())),
    ]
