"""The figure of a robustness run: accuracy against cost, bars of the frame orders, a curve of every corruption."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mvit_video.jobs import atomic_write

Row = dict[str, Any]

_COLOURS = ("#2f6f9f", "#c8611a", "#4d9a6a", "#8a5fa8", "#7a6a3a")
_MARKERS = "oDs^v"
_GREY = "#55606b"
_LEAST_SPAN = 5.0  # percent on the axis of views, where a tenth is not to look like much


def draw_robustness(table: pa.Table) -> Figure:
    """Draw a panel for each study in the table, of its first metric."""
    rows = table.to_pylist()
    metric = rows[0]["metric"]
    gigaflops = float(table.schema.metadata[b"gigaflops_per_view"])
    drawn = {study: [row for row in rows if (row["study"], row["metric"]) == (study, metric)] for study in _PANELS}
    drawn = {study: some for study, some in drawn.items() if some}
    figure = Figure(figsize=(5.2 * len(drawn), 4.4), layout="constrained")
    for axes, (study, some) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        _PANELS[study](axes, some, gigaflops)
        axes.set_ylabel(f"{metric}, % of videos" if metric == "top1" else f"{metric}, %")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e3e8ec")
        axes.set_axisbelow(True)
    band = "" if rows[0]["low"] is None else "; bars and bands are 95 % intervals over videos"
    figure.suptitle(f"{rows[0]['num_videos']} videos, the same in every setting{band}", fontsize=10, color=_GREY)
    return figure


def write_robustness_figure(path: Path, table: pa.Table) -> None:
    """Write the figure as PNG."""
    with atomic_write(path) as unfinished:
        draw_robustness(table).savefig(unfinished, format="png", dpi=150)


def _draw_views(axes: Axes, rows: list[Row], gigaflops: float) -> None:
    """Draw a line for each number of crops; the label of a point is its number of clips."""
    axes.set_title("Views of each video")
    shapes = [tuple(map(int, re.findall(r"\d+", row["setting"]))) for row in rows]
    paired = sorted(zip(shapes, rows, strict=True), key=lambda pair: pair[0][::-1])
    for i, (num_crops, some) in enumerate(groupby(paired, key=lambda pair: pair[0][1])):
        points = list(some)
        clips = [shape[0] for shape, _ in points]
        cost = [gigaflops * number * num_crops for number in clips]
        name = "1 crop, the centre" if num_crops == 1 else f"{num_crops} crops"
        _draw_line(axes, cost, [row for _, row in points], name, i)
        for x, number, (_, row) in zip(cost, clips, points, strict=True):
            axes.annotate(str(number), (x, row["value"]), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xlabel(f"GFLOPs (multiply-adds) per video, {gigaflops:.3g} per view; numbers are clips")
    axes.set_xlim(left=0)
    low, high = axes.get_ylim()
    room = max(0.0, _LEAST_SPAN - (high - low)) / 2
    axes.set_ylim(low - room, high + room)
    axes.legend(frameon=False, loc="lower right")


def _draw_orders(axes: Axes, rows: list[Row], gigaflops: float) -> None:
    axes.set_title("Order of the frames")
    values = [row["value"] for row in rows]
    axes.bar(range(len(rows)), values, color=[_COLOURS[0], *[_COLOURS[1]] * (len(rows) - 1)], width=0.7)
    if rows[0]["low"] is not None:
        axes.errorbar(range(len(rows)), values, _gaps(rows), fmt="none", ecolor=_GREY, capsize=3)
    for x, row in enumerate(rows):
        top = row["value"] if row["high"] is None else row["high"]
        axes.annotate(f"{row['value']:.1f}", (x, top), (0, 4), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks(range(len(rows)), [row["setting"] for row in rows])
    axes.set_xlabel("frames of each clip, in testing alone")
    axes.set_ylim(0, 109)


def _draw_corruptions(axes: Axes, rows: list[Row], gigaflops: float) -> None:
    """Draw a curve for each kind, from the plain test on."""
    axes.set_title("Corrupted clips")
    plain = [row for row in rows if row["severity"] is None]
    damaged = [row for row in rows if row["severity"] is not None]
    for i, (kind, some) in enumerate(groupby(damaged, key=lambda row: row["setting"])):
        points = [*plain, *some]
        _draw_line(axes, [row["severity"] or 0 for row in points], points, kind.replace("_", " "), i)
    severities = sorted({row["severity"] for row in damaged})
    axes.set_xticks([0, *severities], ["none", *map(str, severities)])
    axes.set_xlabel("severity of the corruption, 1 to 5")
    axes.set_ylim(0, 104)
    axes.legend(frameon=False, fontsize=9)


def _draw_line(axes: Axes, x: list[float], rows: list[Row], name: str, i: int) -> None:
    colour, marker = _COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)]
    values = [row["value"] for row in rows]
    axes.plot(x, values, color=colour, marker=marker, markersize=5, label=name)
    if rows[0]["low"] is None:
        return
    if len(rows) == 1:  # which a band does not show
        axes.errorbar(x, values, _gaps(rows), fmt="none", ecolor=colour, capsize=3)
        return
    low, high = ([row[end] for row in rows] for end in ("low", "high"))
    axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)


def _gaps(rows: list[Row]) -> list[list[float]]:
    """Return the distances from each value to the ends of its interval."""
    return [[row["value"] - row["low"] for row in rows], [row["high"] - row["value"] for row in rows]]


_PANELS: dict[str, Callable[[Axes, list[Row], float], None]] = {
    "views": _draw_views,
    "frame_order": _draw_orders,
    "corruptions": _draw_corruptions,
}
