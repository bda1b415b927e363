"""Long jobs: items, workers, a progress bar, and a ledger of finished items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mvit_video.jobs.folder import Ledger
from mvit_video.jobs.pool import Heartbeat, WorkFailure, run_in_processes


@contextmanager
def progress_bar(console: Console, text: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on a terminal; give the function that advances it by one."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("videos"),
        TimeElapsedColumn(), TextColumn("elapsed,"), TimeRemainingColumn(), TextColumn("left"),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task(text, total=total)
        yield lambda: bar.advance(task)


Item = TypeVar("Item")
Result = TypeVar("Result")


class JobStopped(KeyboardInterrupt):
    """Ctrl-C ended a job that can be resumed; carries the numbers of finished and of all items."""

    def __init__(self, num_done: int, num_items: int) -> None:
        super().__init__(num_done, num_items)
        self.num_done, self.num_items = num_done, num_items


@dataclass(frozen=True)
class Workers:
    """Worker processes of a job.

    Attributes:
        num_workers: number of processes.
        limit_seconds: CPU time without a heartbeat, and wall-clock time without CPU time, after which a process counts
            as hung.
        console: console for progress.
    """

    num_workers: int
    limit_seconds: float
    console: Console


def run_job(
    text: str,
    work: Callable[[Item, Heartbeat], Result],
    items: Sequence[Item],
    row_of: Callable[[Item, Result | WorkFailure], dict[str, Any]],
    ledger: Ledger,
    workers: Workers,
) -> None:
    """Process every item and write the rows of the results to the ledger as they arrive.

    Args:
        text: label of the progress bar.
        row_of: returns the row of an item's result or failure.

    Raises:
        JobStopped: on Ctrl-C, after finished rows are written.
    """
    num_done = 0
    try:
        outcomes = run_in_processes(work, items, min(workers.num_workers, len(items)), workers.limit_seconds)
        with closing(outcomes), progress_bar(workers.console, text, len(items)) as advance:
            for item, outcome in outcomes:
                ledger.add(row_of(item, outcome))
                num_done += 1
                advance()
    except KeyboardInterrupt:
        raise JobStopped(num_done, len(items)) from None
    finally:
        ledger.flush()
