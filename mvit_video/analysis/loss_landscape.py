"""Loss landscape around a trained net, along normalised random directions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call

from mvit_video.analysis.adapter import evaluating
from mvit_video.analysis.batches import Batch, on_device, score_logits
from mvit_video.analysis.curvature import WeightDecay, decay_of, trained_parameters
from mvit_video.analysis.drawing import describe
from mvit_video.pages.figures import BLUE, ORANGE, new_figure
from mvit_video.types import ConfigError

Normalisation = Literal["filter", "repo"]
Direction = dict[str, Tensor]
_POSITION = re.compile(r"(^|[._])(rel_)?pos|position")
_HIGHEST_RISE = 42.0  # as in the publication


@dataclass(frozen=True)
class LandscapeSettings:
    """Points of the landscape.

    Attributes:
        num_points: along each direction; odd, so that the net itself is one of them.
        radius: largest distance, in lengths of the weights.
        dimensions: 1 for a line, 2 for a square.
        normalisation: "filter" gives each output filter of a direction the norm of the net's filter (Li et al.); "repo"
            each input position across the output filters, as the code of arXiv:2202.06709 does.
        seed: of the directions.
    """

    num_points: int = 11
    radius: float = 1.0
    dimensions: Literal[1, 2] = 2
    normalisation: Normalisation = "filter"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_points < 3 or self.num_points % 2 == 0:
            raise ConfigError(f"landscape.num_points must be odd and at least 3, got {self.num_points}")
        if not self.radius > 0:
            raise ConfigError(f"landscape.radius must be above 0, got {self.radius}")


def random_direction(model: nn.Module, normalisation: Normalisation, generator: torch.Generator) -> Direction:
    """Return a normalised random direction, zero for biases, norms and position tables.

    Source: Li et al. (arXiv:1712.09913) section 4.
    """
    direction: Direction = {}
    for name, parameter in trained_parameters(model).items():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
        if parameter.ndim <= 1 or _POSITION.search(name):
            direction[name] = torch.zeros_like(drawn)
            continue
        axes = tuple(range(1, parameter.ndim)) if normalisation == "filter" else (0,)
        length = torch.linalg.vector_norm(parameter.detach(), dim=axes, keepdim=True)
        direction[name] = drawn * (length / torch.linalg.vector_norm(drawn, dim=axes, keepdim=True))
    return direction


def landscape(
    model: nn.Module,
    batches: Sequence[Batch],
    settings: LandscapeSettings = LandscapeSettings(),
    weight_decay: WeightDecay = 0.0,
) -> pa.Table:
    """Return loss, accuracy and weight decay of a net moved along one or two directions, in eval mode.

    Columns: x and y (steps; y is 0 on a line), nll, top1, l2 (`wd / 2 * ||w||^2`), loss (nll + l2).

    Args:
        batches: augmented and mixed training clips, the same at every point.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    directions = [random_direction(model, settings.normalisation, generator) for _ in range(settings.dimensions)]
    decay = decay_of(model, weight_decay)
    places = np.linspace(-settings.radius, settings.radius, settings.num_points).tolist()
    fixed = list(on_device(model, batches))
    rows: list[dict[str, float]] = []
    with evaluating(model), torch.no_grad():
        for y in places if settings.dimensions == 2 else [0.0]:
            for x in places:
                moved = {
                    name: parameter + sum(step * one[name] for step, one in zip((x, y), directions, strict=False))
                    for name, parameter in trained_parameters(model).items()
                }
                found = score_logits(lambda clip, moved=moved: functional_call(model, moved, (clip,)), fixed)
                l2 = sum(decay[name] / 2 * float(value.square().sum()) for name, value in moved.items())
                rows.append({"x": x, "y": y, "nll": found.loss, "top1": found.top1, "l2": l2, "loss": found.loss + l2})
    return pa.Table.from_pylist(rows)


def draw_landscape(table: pa.Table) -> Figure:
    """Draw the rise of the loss: a map and its profiles; on a line, the profile alone."""
    x, y, loss = (table[name].to_numpy() for name in ("x", "y", "loss"))
    middle = loss[np.argmin(np.hypot(x, y))]
    rise = np.minimum(loss - middle, _HIGHEST_RISE)
    on_line = y == np.median(y)
    is_map = len(np.unique(y)) > 1
    figure, axes = new_figure(1, 2 if is_map else 1)
    axes[0].plot(x[on_line], rise[on_line], color=BLUE, marker="o", markersize=4, label="first direction")
    if is_map:
        on_other = x == np.median(x)
        axes[0].plot(
            y[on_other], rise[on_other], "--", color=ORANGE, marker="o", markersize=4, label="second direction"
        )
        side = np.unique(x)
        filled = axes[1].contourf(side, side, rise.reshape(len(side), len(side)), levels=14, cmap="viridis")
        axes[1].plot(0, 0, "+", color="white", markersize=10)
        axes[1].set_aspect("equal")
        describe(axes[1], "Rise of the loss (+: the trained net)", x="first direction", y="second direction")
        figure.colorbar(filled, ax=axes[1], pad=0.02)
    title = "Flat around 0: small changes of the weights change little"
    x_label = "distance from the trained net, in lengths of its weights"
    describe(axes[0], title, x=x_label, y="loss − loss of the trained net", legend=is_map)
    return figure
