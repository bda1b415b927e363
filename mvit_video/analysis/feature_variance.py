"""Variance of feature maps over space, over time and over both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from mvit_video.analysis.batches import Batch
from mvit_video.analysis.drawing import describe, kind_legend, layers_of, plot_runs, shade_kinds
from mvit_video.analysis.layers import measure_layers
from mvit_video.pages.figures import BLUE, ORANGE, new_figure


class Variances(NamedTuple):
    """Mean over clips and channels of the variance of a map.

    Attributes:
        space: over the cells of each frame, unbiased, as in the reference.
        time: over the frames of each cell, unbiased; NaN for one frame.
        within_frames: over the cells of each frame, biased.
        between_frames: of the means of the frames, biased.
        total: over all cells and frames, biased: the sum of the last two.
    """

    space: float
    time: float
    within_frames: float
    between_frames: float
    total: float


def map_variances(maps: Float[Tensor, "B C T H W"]) -> Variances:
    """Return the variances of maps; NaN over space for one cell, and over time for one frame."""
    maps = maps.double()
    frames = maps.flatten(3)
    num_frames, num_cells = frames.shape[2:]
    within = frames.var(dim=3, correction=0)
    return Variances(
        space=float(within.mean()) * num_cells / (num_cells - 1) if num_cells > 1 else float("nan"),
        time=float(maps.var(dim=2).mean()) if num_frames > 1 else float("nan"),
        within_frames=float(within.mean()),
        between_frames=float(frames.mean(dim=3).var(dim=2, correction=0).mean()),
        total=float(maps.flatten(2).var(dim=2, correction=0).mean()),
    )


def variance(model: nn.Module, batches: Iterable[Batch]) -> pa.Table:
    """Return the variances of maps after every residual sum.

    Columns: sample (0 is the stem), name, kind, C, T, H, W, depth (0 at the stem, 1 at the last layer), and the fields
    of `Variances`.

    Source: arXiv:2202.06709 figure 9; the law of total variance splits it for clips
    (tests/analysis/test_feature_variance.py).
    """

    def measure(maps: Tensor) -> dict[str, NDArray[np.float64]]:
        return {name: np.array(value) for name, value in map_variances(maps)._asdict().items()}

    layers = measure_layers(model, batches, measure)
    last = max(len(layers) - 1, 1)
    return pa.Table.from_pylist(
        [
            {**layer.record, "depth": layer.sample / last, **{name: float(one) for name, one in layer.values.items()}}
            for layer in layers
        ]
    )


def draw_variance(table: pa.Table) -> Figure:
    """Draw the variance over space and over time, and its share between frames, over the layers."""
    layers = layers_of(table)
    columns = {name: table[name].to_numpy() for name in Variances._fields}
    figure, (left, right) = new_figure(1, 2)
    for name, colour, what in (("space", BLUE, "over the cells of a frame"), ("time", ORANGE, "over the frames")):
        plot_runs(left, layers.runs, columns[name], colour, what)
    share = columns["between_frames"] / np.maximum(columns["total"], np.finfo(float).tiny)
    plot_runs(right, layers.runs, 100 * share, ORANGE)
    for axes in (left, right):
        shade_kinds(axes, layers.kinds)
        axes.set_ylim(bottom=0)
    x = left.get_xlabel()
    describe(
        left,
        "Rising: the layer adds variance; falling: it averages",
        x=x,
        y="variance, mean over channels",
        legend=True,
    )
    describe(right, "Share of variance between the means of the frames", x=x, y="% of the total variance")
    kind_legend(figure, layers.kinds)
    return figure
