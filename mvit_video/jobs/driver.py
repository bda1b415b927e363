"""A long job: items, workers, and a ledger of what is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from rich.console import Console

from mvit_video.jobs.ledger import Ledger
from mvit_video.jobs.pool import Heartbeat, WorkFailure, run_in_processes
from mvit_video.jobs.progress import progress_bar

Item = TypeVar("Item")
Result = TypeVar("Result")


class JobStopped(KeyboardInterrupt):
    """Ctrl-C ended a job that can go on later; says how many of the items are done."""

    def __init__(self, num_done: int, num_items: int) -> None:
        super().__init__(num_done, num_items)
        self.num_done, self.num_items = num_done, num_items


@dataclass(frozen=True)
class Workers:
    """How a job is spread.

    Attributes:
        num_workers: processes.
        limit_seconds: CPU time that a process may use without a heartbeat, and wall-clock time that it may spend
            without using any, before it counts as hung.
        console: where progress is shown.
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
    """Do the work on every item and write the rows of the results to the ledger as they come.

    Args:
        text: what the progress bar says.
        row_of: the row of an item's result, or of why it has none.

    Raises:
        JobStopped: on Ctrl-C, after what is done has been written.
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
