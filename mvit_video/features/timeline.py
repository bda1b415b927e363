"""Figure of the classes of a video over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mvit_video.features.classification import Classification
from mvit_video.pages.figures import label_text, new_figure, write_png

# distinct to the colour-blind and dark enough on white (Okabe and Ito's, without yellow and black)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
OTHER = "#9aa0a6"


def foremost(timeline: Classification, count: int) -> Sequence[int]:
    """Return the classes that get a colour: the most probable ones for the longest time."""
    seconds = np.zeros(timeline.probabilities.shape[1])
    np.add.at(seconds, timeline.probabilities.argmax(axis=1), np.diff(timeline.edges))
    order = np.lexsort((-timeline.overall, -seconds))
    return [int(number) for number in order[:count]]


def draw_timeline(timeline: Classification, target: Path) -> None:
    """Draw the probability of the top classes over time, and the most probable class as a band.

    Args:
        target: PNG file to write.
    """
    shown = foremost(timeline, len(COLOURS))
    colours = dict(zip(shown, COLOURS, strict=False))
    figure, (curves, band) = new_figure(2, 1, width=10, height=1.9, ratios=(6, 1))
    edges = timeline.edges
    for number in shown:
        curves.stairs(
            100 * timeline.probabilities[:, number], edges, baseline=None, color=colours[number], linewidth=1.8,
            label=label_text(timeline.name(number)), clip_on=False,
        )  # fmt: skip
    curves.set(ylim=(0, 100), ylabel="probability, %", xlim=(edges[0], edges[-1]))
    curves.tick_params(labelbottom=False)
    curves.grid()
    curves.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    for one in timeline.segments():
        colour = colours.get(int(one.probabilities.argmax()), OTHER)
        band.axvspan(one.start_seconds, one.end_seconds, color=colour, linewidth=0)
    band.set(yticks=[], xlabel=f"seconds of {label_text(Path(timeline.path).name)}", xlim=(edges[0], edges[-1]))
    band.set_ylabel("top-1", rotation=0, ha="right", va="center")
    write_png(figure, target)
