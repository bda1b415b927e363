"""A summary as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mvit_video.curation.scanning.summary import Summary, histogram

_BAR_WIDTH = 32
_NUM_BINS = 8
_ROWS_SHOWN = 8


def print_summary(summary: Summary, console: Console, unlabelled_because: str) -> None:
    """Print counts by kind, backends, class balance, duplicates and distributions."""
    if summary.kinds:
        _print(console, "problems found", ("kind", "failed", "usable", "meaning"), summary.kinds)
    if summary.num_usable:
        _print(console, "decoding backends", ("backend", "why", "videos"), summary.backends)
    _print_classes(summary, console, unlabelled_because)
    _print_duplicates(summary, console)
    if summary.num_usable:
        _print_bars(console, "seconds", _binned(summary.durations_seconds))
        _print_bars(console, "frames per second", _binned(summary.fps))
        _print_bars(console, "size", summary.sizes)
        _print_bars(console, "codec", summary.codecs)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, pad_edge=False)


def _print(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = _table(title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if isinstance(rows[0][i], int) else "left")
    for row in rows:
        table.add_row(*(Text(f"{value:,}" if isinstance(value, int) else str(value)) for value in row))
    console.print(table)


def _print_classes(summary: Summary, console: Console, unlabelled_because: str) -> None:
    if summary.classes:
        counts = np.array([number for _, number in summary.classes])
        (most, high), (least, low) = summary.classes[0], summary.classes[-1]
        extremes = f"{high:,} in {most}, {low:,} in {least}"
        console.print(Text(f"{len(counts):,} classes; videos in each: median {np.median(counts):,.0f}, {extremes}"))
        if low == 0:
            console.print(Text(f"{(counts == 0).sum():,} of them without a usable video"))
    if summary.num_unlabelled:
        because = f": {unlabelled_because}" if unlabelled_because else ""
        console.print(Text(f"{summary.num_unlabelled:,} videos have no label{because}"))


def _print_duplicates(summary: Summary, console: Console) -> None:
    if not summary.duplicates:
        return
    num_files = sum(len(group.paths) for group in summary.duplicates)
    contradictory = [group for group in summary.duplicates if group.is_contradictory]
    text = f"equal files: {num_files:,}, groups of them: {len(summary.duplicates):,}"
    console.print(Text(f"{text}, {len(contradictory):,} with contradictory labels" if contradictory else text))
    for group in contradictory[:_ROWS_SHOWN]:
        pairs = zip(group.paths, group.labels, strict=True)
        console.print(Text("  " + " = ".join(f"{path} ({label})" for path, label in pairs)))


def _binned(values: NDArray[np.float64]) -> list[tuple[str, int]]:
    return [(name, number) for name, _, _, number in histogram(values, _NUM_BINS)]


def _print_bars(console: Console, title: str, rows: Sequence[tuple[str, int]]) -> None:
    shown, rest = rows[:_ROWS_SHOWN], sum(number for _, number in rows[_ROWS_SHOWN:])
    if rest:
        shown = [*shown, (f"{len(rows) - _ROWS_SHOWN} others", rest)]
    highest = max(number for _, number in shown)
    table = _table(title)
    table.show_header = False
    for justify in ("right", "right", "left"):
        table.add_column(justify=justify)
    for name, number in shown:
        bar = "█" * max(1, round(_BAR_WIDTH * number / highest)) if number else ""
        table.add_row(Text(name), f"{number:,}", Text(bar, style="cyan"))
    console.print(table)
