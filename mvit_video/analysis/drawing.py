"""The look of the figures of analyses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mvit_video.analysis.adapter import Kind
from mvit_video.pages.figures import GREY, new_figure

# attention grey, MLP and convolution white, changes of the grid blue, as in the figures of arXiv:2202.06709
SHADES: dict[str, tuple[str, str]] = {
    "msa": ("#d9dde2", "attention"),
    "mlp": ("#ffffff", "MLP"),
    "conv": ("#ffffff", "convolution"),
    "block": ("#ffffff", "block"),
    "pool": ("#bcd8f0", "change of grid or width"),
    "peg": ("#f5e2b8", "position encoding"),
}


def describe(axes: Axes, title: str = "", *, x: str, y: str, legend: bool = False) -> None:
    """Write the title, the axis labels and the legend of a panel."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if legend:
        axes.legend(fontsize=9, framealpha=0.9)


def score_panels(x: str, *, width: float = 11.0) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with panels for "top1" and "loss"."""
    figure, panels = new_figure(1, 2, width=width)
    labels = {"top1": "top-1 accuracy, %", "loss": "mean negative log-likelihood"}
    for axes, label in zip(panels, labels.values(), strict=True):
        describe(axes, x=x, y=label)
    panels[0].set_ylim(0, 100)
    return figure, dict(zip(labels, panels, strict=True))


def shade_kinds(axes: Axes, kinds: Sequence[Kind]) -> None:
    """Draw a shade for the step to each sample by its kind, and number the layers on the axis."""
    for i, kind in enumerate(kinds[1:], start=1):
        axes.axvspan(i - 1, i, color=SHADES[kind][0], zorder=0, linewidth=0)
    axes.set_xlim(0, max(len(kinds) - 1, 1))
    axes.set_xlabel("layer (0: stem, then one for each residual sum)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_runs(
    axes: Axes,
    runs: Sequence[range],
    values: Sequence[float] | NDArray[np.float64],
    colour: str,
    label: str | None = None,
) -> None:
    """Plot a value per layer: a line where grid and width stay, dots where they change."""
    axes.plot(range(len(values)), values, color=colour, linewidth=0.9, linestyle=":", marker="o", markersize=4)
    for run in runs:
        axes.plot(run, values[run.start : run.stop], color=colour, label=label if run.start == 0 else None)


def kind_legend(figure: Figure, kinds: Sequence[Kind]) -> None:
    """Add a legend of shades and dotted lines below the figure."""
    shown = [SHADES[kind] for kind in SHADES if kind in kinds[1:]]
    handles: list[Artist] = [
        Patch(facecolor=colour, edgecolor=GREY, linewidth=0.6, label=what) for colour, what in shown
    ]
    if "pool" in kinds:
        handles.append(Line2D([], [], color=GREY, linestyle=":", label="not comparable: grid or width changes"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)


def depth_colours(num_layers: int) -> NDArray[np.float64]:
    """Return a colour per layer, from the stem to the end."""
    return colormaps["viridis"](np.linspace(0, 0.92, num_layers))


class Layers(NamedTuple):
    """Samples of a net in order.

    Attributes:
        runs: layers of equal grid and width, whose values are comparable.
    """

    names: list[str]
    kinds: list[Kind]
    runs: list[range]


def layers_of(table: pa.Table) -> Layers:
    """Return the layers of a table with columns sample, name, kind, C, T, H and W."""
    _, first = np.unique(table["sample"].to_numpy(), return_index=True)
    rows = table.select(["name", "kind", "C", "T", "H", "W"]).take(first).to_pylist()
    sizes = [(row["C"], row["T"], row["H"], row["W"]) for row in rows]
    runs = [list(found) for _, found in groupby(range(len(rows)), key=sizes.__getitem__)]
    return Layers(
        [row["name"] for row in rows], [row["kind"] for row in rows], [range(run[0], run[-1] + 1) for run in runs]
    )


def where(table: pa.Table, **values: object) -> dict[str, NDArray[Any]]:
    """Return the columns of the rows with these values."""
    chosen = np.ones(table.num_rows, dtype=bool)
    for name, value in values.items():
        chosen &= table[name].to_numpy() == value
    return {name: table[name].to_numpy()[chosen] for name in table.column_names}
