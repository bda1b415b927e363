"""The figure of a robustness run: accuracy against cost, by the order of frames, and under each corruption."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from mvit_video.jobs import atomic_write
from mvit_video.pages.figures import BLUE, GREY, INK, MARKERS, ORANGE, SERIES, label_text, new_figure, write_png
from mvit_video.runs.results import ROBUSTNESS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
_LEAST_SPAN = 5.0  # percent on the axis of views, where a tenth must not look like much


def draw_robustness(table: pa.Table) -> Figure:
    """Draw the first metric of a table, a panel for each study."""
    rows, metadata = table.to_pylist(), table.schema.metadata
    figure = draw_studies(rows, float(metadata[b"gigaflops_per_view"]), int(metadata.get(b"num_classes", 0)))
    band = "; bars and bands are 95 % intervals over videos" if _have_intervals(rows[:1]) else ""
    figure.suptitle(f"{rows[0]['num_videos']} videos, the same in every setting{band}", fontsize=10, color=GREY)
    return figure


def draw_studies(rows: Sequence[Row], gigaflops: float | None, num_classes: int) -> Figure:
    """Draw the first metric of rows, a panel for each study.

    Args:
        gigaflops: giga multiply-adds of one view; None where unknown.
        num_classes: of the net, for the accuracy of chance; 0 where unknown.
    """
    metric = rows[0]["metric"]
    drawn = {study: [row for row in rows if (row["study"], row["metric"]) == (study, metric)] for study in _PANELS}
    drawn = {study: some for study, some in drawn.items() if some}
    figure, panels = new_figure(1, len(drawn), width=5.2 * len(drawn), height=4.2)
    for axes, (study, some) in zip(panels, drawn.items(), strict=True):
        _PANELS[study](axes, some, gigaflops)
        axes.set_ylabel(f"{label_text(str(metric))}, %")
        axes.grid(axis="y")
        if metric == "top1" and num_classes and axes.get_ylim()[0] <= 100 / num_classes:
            axes.axhline(100 / num_classes, color=GREY, linestyle="--", linewidth=1, label="chance")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
    return figure


def write_robustness(folder: Path, table: pa.Table) -> list[Path]:
    """Write `robustness.parquet` and its figure `robustness.png`; return both."""
    files = [folder / ROBUSTNESS, folder / "robustness.png"]
    with atomic_write(files[0]) as unfinished:
        parquet.write_table(table, unfinished)
    write_png(draw_robustness(table), files[1])
    return files


def clip_counts(row: Row) -> tuple[int, int] | None:
    """Return the clips and crops of a setting such as "3 clips x 1 crop"; None for another setting."""
    found = re.fullmatch(r"(\d+) clips? x (\d+) crops?", str(row["setting"]))
    return (int(found[1]), int(found[2])) if found else None


def _draw_views(axes: Axes, rows: list[Row], gigaflops: float | None) -> None:
    """Draw a line for each number of crops; the label of a point is its number of clips."""
    axes.set_title("Views of each video")
    paired = sorted(((clip_counts(row) or (1, 1), row) for row in rows), key=lambda pair: pair[0][::-1])
    highest = 0.0
    for i, (num_crops, some) in enumerate(groupby(paired, key=lambda pair: pair[0][1])):
        points = list(some)
        cost = [(gigaflops or 1) * num_clips * num_crops for (num_clips, _), _ in points]
        highest = max(highest, *cost)
        _draw_line(axes, cost, [row for _, row in points], "centre crop" if num_crops == 1 else f"{num_crops} crops", i)
        for x, ((num_clips, _), row) in zip(cost, points, strict=True):
            place = (x, row["value"])
            axes.annotate(
                f"{num_clips}", place, (3, -12), textcoords="offset points", fontsize=8, color=SERIES[i % len(SERIES)]
            )
    unit = "views of each video" if gigaflops is None else f"GFLOPs per video, {gigaflops:.3g} per view"
    axes.set_xlabel(f"{unit}; numbers are clips")
    axes.set_xlim(0, 1.08 * highest)
    low, high = axes.get_ylim()
    room = max(0.0, _LEAST_SPAN - (high - low)) / 2
    axes.set_ylim(max(0.0, low - room), min(100.0, high + room))


def _draw_orders(axes: Axes, rows: list[Row], gigaflops: float | None) -> None:
    axes.set_title("Order of the frames")
    values = [row["value"] for row in rows]
    axes.bar(range(len(rows)), values, color=[BLUE, *[ORANGE] * (len(rows) - 1)], width=0.7)
    if _have_intervals(rows):
        axes.errorbar(range(len(rows)), values, _gaps(rows), fmt="none", ecolor=INK, capsize=3)
    for x, row in enumerate(rows):  # at the foot, away from the error bar, or above it on a low bar
        is_low = row["value"] < 10
        y, colour = (max(row["high"] or 0, row["value"]) + 2, INK) if is_low else (2, "white")
        axes.annotate(f"{row['value']:.1f}", (x, y), ha="center", fontsize=9, color=colour, fontweight="bold")
    axes.set_xticks(range(len(rows)), [label_text(str(row["setting"])) for row in rows])
    axes.set_xlabel("frames of each clip, changed at test time")
    axes.set_ylim(0, 100)


def _draw_corruptions(axes: Axes, rows: list[Row], gigaflops: float | None) -> None:
    """Draw a curve for each kind, beginning with the plain test."""
    axes.set_title("Corrupted clips")
    plain = [row for row in rows if row["severity"] is None]
    damaged = [row for row in rows if row["severity"] is not None]
    for i, (kind, some) in enumerate(groupby(damaged, key=lambda row: row["setting"])):
        points = [*plain[:1], *some]
        name = label_text(str(kind).replace("_", " "))
        _draw_line(axes, [row["severity"] or 0 for row in points], points, name, i)
    severities = sorted({row["severity"] for row in damaged})
    axes.set_xticks([0, *severities], ["none", *(f"{severity:g}" for severity in severities)])
    axes.set_xlabel("severity of the corruption, 1 to 5")
    axes.set_ylim(0, 100)


def _draw_line(axes: Axes, x: Sequence[float], rows: list[Row], name: str, i: int) -> None:
    colour, values = SERIES[i % len(SERIES)], [row["value"] for row in rows]
    axes.plot(x, values, color=colour, marker=MARKERS[i % len(MARKERS)], markersize=5, label=name)
    if not _have_intervals(rows):
        return
    if len(rows) == 1:  # a band would be invisible
        axes.errorbar(x, values, _gaps(rows), fmt="none", ecolor=colour, capsize=3)
        return
    low, high = ([row[end] for row in rows] for end in ("low", "high"))
    axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)


def _have_intervals(rows: Sequence[Row]) -> bool:
    return all(row["low"] is not None and row["high"] is not None for row in rows)


def _gaps(rows: list[Row]) -> list[list[float]]:
    """Return the distances from each value to the ends of its interval."""
    return [[row["value"] - row["low"] for row in rows], [row["high"] - row["value"] for row in rows]]


_PANELS: dict[str, Callable[[Axes, list[Row], float | None], None]] = {
    "views": _draw_views,
    "frame_order": _draw_orders,
    "corruptions": _draw_corruptions,
}
