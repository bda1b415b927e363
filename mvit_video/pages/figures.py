"""Figures in one look, as PNG files and as inline SVG."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mvit_video.jobs import atomic_write
from mvit_video.types import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, LINE, BLUE, ORANGE = "#1d2733", "#5d6b79", "#e3e8ec", "#2f6f9f", "#b8530f"
SERIES = (BLUE, ORANGE, "#3f8f5b", "#8a5fa8", "#a8871f", "#3fa3b5")
MARKERS = "oDs^vP"
# colours of a figure that follow the theme of a page
_VARIABLES = {
    "#000000": "--ink", INK: "--ink", GREY: "--soft", LINE: "--line", BLUE: "--right", ORANGE: "--wrong",
    "#ffffff": "--card",
}  # fmt: skip
_LONGEST_LABEL = 60


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 11.0, height: float = 3.6, ratios: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, row by row; no display is needed.

    Args:
        width: of the figure in inches.
        height: of a row in inches, the mean of all.
        ratios: heights of the rows; None for equal ones.
    """
    from matplotlib import rc_context  # slow to import
    from matplotlib.figure import Figure

    grey = dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), GREY)
    ink = dict.fromkeys(("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK)
    look: Any = {**grey, **ink, "grid.color": LINE, "axes.grid.axis": "y"}
    with rc_context(look):
        figure = Figure(figsize=(width, height * rows), layout="constrained", dpi=120)
        grid = figure.add_gridspec(rows, columns, height_ratios=ratios)
        axes = [figure.add_subplot(grid[divmod(i, columns)]) for i in range(rows * columns)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=9)
        one.set_axisbelow(True)
    return figure, axes


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_write(path) as unfinished:
        FigureCanvasAgg(figure).print_figure(unfinished, format="png", dpi=figure.dpi)


def inline_svg(figure: Figure) -> Markup:
    """Return a figure as an SVG element whose colours and font follow the page."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    text = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "page"}):
        FigureCanvasSVG(figure).print_figure(text, format="svg", facecolor="none", metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg class="figure" \1>', svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(f": {colour}", f": var({variable})")
    return Markup(svg)


def label_text(name: str) -> str:
    """Return a name as matplotlib draws it: `$` would begin a formula, and legends hide labels that begin with `_`."""
    shown = printable(name, _LONGEST_LABEL).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
