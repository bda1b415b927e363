"""What the figures share: their look, and shading that tells kinds of layers apart."""

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

BLUE, ORANGE, GREY = "#2f6f9f", "#b4562c", "#6e7781"
# attention grey, MLP and convolution white, changes of the grid blue, as in the figures of arXiv:2202.06709
SHADES: dict[str, tuple[str, str]] = {
    "msa": ("#d9dde2", "attention"),
    "mlp": ("#ffffff", "MLP"),
    "conv": ("#ffffff", "convolution"),
    "block": ("#ffffff", "block"),
    "pool": ("#bcd8f0", "change of grid or width"),
    "peg": ("#f5e2b8", "position encoding"),
}


def new_figure(rows: int, columns: int, *, width: float = 11.0, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure of panels of a height in inches, and its axes row by row."""
    figure = Figure(figsize=(width, height * rows), layout="constrained", dpi=120)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(rows * columns)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=9)
    return figure, axes


def shade_kinds(axes: Axes, kinds: Sequence[Kind]) -> None:
    """Shades the stretch that leads to each sample after the first by what was added there, and puts layers below."""
    for i, kind in enumerate(kinds[1:], start=1):
        axes.axvspan(i - 1, i, color=SHADES[kind][0], zorder=0, linewidth=0)
    axes.set_xlim(0, max(len(kinds) - 1, 1))
    axes.set_xlabel("layer: 0 is the stem, every residual sum counts one")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_runs(
    axes: Axes,
    runs: Sequence[range],
    values: Sequence[float] | NDArray[np.float64],
    colour: str,
    label: str | None = None,
) -> None:
    """A value per layer: joined where grid and width stay, dotted where they change and values cannot be compared."""
    axes.plot(range(len(values)), values, color=colour, linewidth=0.9, linestyle=":", marker="o", markersize=4)
    for run in runs:
        axes.plot(run, values[run.start : run.stop], color=colour, label=label if run.start == 0 else None)


def kind_legend(figure: Figure, kinds: Sequence[Kind]) -> None:
    """Says below the figure what the shading and the dotted lines mean."""
    shown = [SHADES[kind] for kind in SHADES if kind in kinds[1:]]
    handles: list[Artist] = [
        Patch(facecolor=colour, edgecolor=GREY, linewidth=0.6, label=what) for colour, what in shown
    ]
    if "pool" in kinds:
        handles.append(Line2D([], [], color=GREY, linestyle=":", label="not comparable: grid or width differs"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)


def depth_colours(num_layers: int) -> NDArray[np.float64]:
    """A colour per layer, from the stem to the end."""
    return colormaps["viridis"](np.linspace(0, 0.92, num_layers))


class Layers(NamedTuple):
    """The samples of a net in order.

    Attributes:
        runs: stretches of layers with one grid and width, between which values cannot be compared.
    """

    names: list[str]
    kinds: list[Kind]
    runs: list[range]


def layers_of(table: pa.Table) -> Layers:
    """The layers that a table speaks of, from its columns sample, name, kind, C, T, H and W."""
    _, first = np.unique(table["sample"].to_numpy(), return_index=True)
    rows = table.select(["name", "kind", "C", "T", "H", "W"]).take(first).to_pylist()
    sizes = [(row["C"], row["T"], row["H"], row["W"]) for row in rows]
    runs = [list(found) for _, found in groupby(range(len(rows)), key=sizes.__getitem__)]
    return Layers(
        [row["name"] for row in rows], [row["kind"] for row in rows], [range(run[0], run[-1] + 1) for run in runs]
    )


def where(table: pa.Table, **values: object) -> dict[str, NDArray[Any]]:
    """Columns of the rows that have these values."""
    chosen = np.ones(table.num_rows, dtype=bool)
    for name, value in values.items():
        chosen &= table[name].to_numpy() == value
    return {name: table[name].to_numpy()[chosen] for name in table.column_names}
