"""Picture of the classes of a video over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mvit_video.features.classification import Classification
from mvit_video.jobs import atomic_write
from mvit_video.types import printable

# told apart by the colour-blind too, dark enough to be read on white (Okabe and Ito's, without yellow and black)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
OTHER = "#9aa0a6"
_LONGEST_NAME = 60


def foremost(timeline: Classification, count: int) -> Sequence[int]:
    """The classes to tell apart in a picture: those that are the most probable for the longest time."""
    seconds = np.zeros(timeline.probabilities.shape[1])
    np.add.at(seconds, timeline.probabilities.argmax(axis=1), np.diff(timeline.edges))
    order = np.lexsort((-timeline.overall, -seconds))
    return [int(number) for number in order[:count]]


def draw_timeline(timeline: Classification, picture: Path) -> None:
    """Draws the probability of the foremost classes over time, and the most probable class as a band.

    Args:
        picture: PNG file to write.
    """
    # slow to import; the figure is drawn without a window, whatever the user's settings
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = foremost(timeline, len(COLOURS))
    colours = dict(zip(shown, COLOURS, strict=False))
    figure = Figure(figsize=(10, 3.6), dpi=110, layout="constrained")
    curves, band = figure.subplots(2, sharex=True, height_ratios=(6, 1))
    edges = timeline.edges
    for number in shown:
        curves.stairs(
            100 * timeline.probabilities[:, number], edges, baseline=None, color=colours[number], linewidth=1.6,
            label=_plain(timeline.name(number)),
        )  # fmt: skip
    curves.set(ylim=(0, 102), ylabel="percent")
    curves.grid(alpha=0.3)
    curves.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    for one in timeline.segments():
        colour = colours.get(int(one.probabilities.argmax()), OTHER)
        band.axvspan(one.start_seconds, one.end_seconds, color=colour, linewidth=0)
    band.set(
        yticks=[], ylabel="top1", xlabel=f"seconds of {_plain(Path(timeline.path).name)}", xlim=(edges[0], edges[-1])
    )
    with atomic_write(picture) as unfinished:
        FigureCanvasAgg(figure).print_figure(unfinished, format="png")


def _plain(name: str) -> str:
    """A name as matplotlib has to be given it: dollar signs would hold formulas, and labels that begin with _ hide."""
    shown = printable(name, _LONGEST_NAME).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
