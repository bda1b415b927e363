"""Runs over seeds in processes, and their results: a printed table, a CSV file and a figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure
from pyarrow import csv
from rich.console import Console
from rich.table import Table

from mvit_video.jobs import WorkFailure, atomic_write, run_in_processes
from mvit_video.jobs.driver import progress_bar
from mvit_video.pages.figures import write_png
from mvit_video.types import MVitVideoError

_SILENCE_SECONDS = 1800
COLOURS = ("#6e7781", "#2f6f9f", "#b4562c", "#3f8f5b", "#8a5fa8", "#c79a2b")
Rows = list[dict[str, Any]]
Heartbeat = Callable[[], object]
Context = TypeVar("Context")


class Run(NamedTuple):
    """One net to train."""

    variant: str
    seed: int


def train_all(
    work: Callable[[Run, Heartbeat, Context], Rows], context: Context, runs: Sequence[Run], num_workers: int, title: str
) -> pa.Table:
    """Return the rows of all runs in order; each run takes one thread of one process.

    Args:
        work: a function of a module that returns the rows of a run, and calls its heartbeat at least every half hour.
        context: argument of all runs, sent to each process once.

    Raises:
        MVitVideoError: a run has failed.
    """
    found: dict[Run, Rows] = {}
    results = run_in_processes(
        partial(_on_one_thread, work, context), runs, min(num_workers, len(runs)), _SILENCE_SECONDS
    )
    console = Console(stderr=True)
    with progress_bar(console, title, len(runs)) as advance:
        for run, rows in results:
            if isinstance(rows, WorkFailure):
                raise MVitVideoError(f"{title}, {run.variant}, seed {run.seed}: {rows.reason}")
            found[run] = [{**run._asdict(), **row} for row in rows]
            console.print(f"{title}: {run.variant}, seed {run.seed} done, {len(found)} of {len(runs)}", highlight=False)
            advance()
    return pa.Table.from_pylist([row for run in runs for row in found[run]])


def save(out: Path, name: str, table: pa.Table, figure: Figure | None = None) -> None:
    """Write a table as CSV, and a figure as PNG."""
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / f"{name}.csv") as path:
        csv.write_csv(table, path)
    if figure is not None:
        write_png(figure, out / f"{name}.png")
    Console().print(f"{out / name}.csv" + (" and .png" if figure is not None else ""), highlight=False)


def show(title: str, rows: Iterable[Mapping[str, str]]) -> None:
    """Print rows of text as a table."""
    rows = list(rows)
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(rows[0]):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


def spread(values: Sequence[float] | np.ndarray, digits: int = 1) -> str:
    """Return mean and range over seeds as text; a dash for no values."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        return "–"
    low, high = values.min(), values.max()
    return f"{values.mean():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _on_one_thread(
    work: Callable[[Run, Heartbeat, Context], Rows], context: Context, run: Run, heartbeat: Heartbeat
) -> Rows:
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    return work(run, heartbeat, context)
