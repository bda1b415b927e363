"""Work on many items in processes of which each may crash or hang without harm to the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, NamedTuple, TypeVar

from mvit_video.jobs.children import Child, cause_of_end

Item = TypeVar("Item")
Result = TypeVar("Result")
Heartbeat = Callable[[], None]

_READY, _ALIVE, _DONE, _RAISED = range(4)
_NOTHING: Any = object()
_SECONDS_TO_END = 10.0
_END = "the end of the items, which no item equals"


class WorkFailure(NamedTuple):
    """Why an item has no result."""

    kind: Literal["time-out", "crash", "error"]
    reason: str


def run_in_processes(
    work: Callable[[Item, Heartbeat], Result], items: Iterable[Item], num_workers: int, limit_seconds: float
) -> Generator[tuple[Item, Result | WorkFailure], None, None]:
    """Results of `work(item, heartbeat)`, in the order in which they are ready.

    Items are drawn as workers become free, so that any number of them costs no memory. A worker that dies or misses its
    heartbeat is replaced, and its item is reported as failed; long work calls `heartbeat` now and then. Workers end
    with this process, however it ends.

    Args:
        work: a picklable function of an item; it is sent to each process once.
        limit_seconds: CPU time that a worker may use between two heartbeats, and wall-clock time that it may spend
            without using any, before it counts as hung; the load of the machine does not matter.

    Raises:
        RuntimeError: a worker cannot even start.
    """
    remaining = iter(items)
    workers = [_Worker(work, limit_seconds) for _ in range(num_workers)]
    try:
        while any(not worker.is_finished for worker in workers):
            timeout = min((worker.watch.poll_seconds for worker in workers if worker.is_busy), default=None)
            heard = set(wait([worker.connection for worker in workers if not worker.is_finished], timeout))
            for i, worker in enumerate(workers):
                if worker.is_finished:
                    continue
                outcome, item = _NOTHING, worker.item
                if worker.connection in heard:
                    outcome = worker.hear()
                elif worker.is_busy and worker.watch.is_hung() and not worker.connection.poll():
                    outcome = WorkFailure("time-out", f"no heartbeat for {limit_seconds:g} s")
                    worker.end()
                worker.is_busy = worker.is_busy and outcome is _NOTHING
                if worker.is_dead:
                    workers[i] = worker = _Worker(work, limit_seconds)
                worker.give_next(remaining)  # before the caller takes its time
                if outcome is not _NOTHING:
                    yield item, outcome
        for worker in workers:
            worker.end(_SECONDS_TO_END)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process, its end of a pipe, and what it works on."""

    def __init__(self, work: Callable[[Any, Heartbeat], Any], limit_seconds: float) -> None:
        self._child = Child(_serve, work, preload="mvit_video.data.readers")
        self.connection, self.watch = self._child.connection, self._child.watch(limit_seconds)
        self.item: Any = None
        self.is_ready = self.is_busy = self.is_dead = self.is_finished = False

    def hear(self) -> Any:
        """The outcome of its item; `_NOTHING` when it has only said that it lives."""
        self.watch.beat()
        try:
            sign, value = self.connection.recv()
        except (EOFError, OSError):
            return self._died()
        self.is_ready = True
        if sign == _RAISED:
            return WorkFailure("error", value)
        return value if sign == _DONE else _NOTHING

    def give_next(self, remaining: Iterator[Any]) -> None:
        """Gives an idle worker another item; without one it ends, and puts away what it has to."""
        if not self.is_ready or self.is_busy:
            return
        try:
            self.item = next(remaining)
            self.is_busy = True
            self.watch.beat()
        except StopIteration:
            self.item, self.is_finished = _END, True
        with suppress(OSError):  # it has just died, which the next hear() tells
            self.connection.send(self.item)

    def end(self, grace_seconds: float = 0.0) -> int:
        """Ends the process; its exit code."""
        self.is_dead = True
        return self._child.end(grace_seconds)

    def _died(self) -> Any:
        code = self.end(_SECONDS_TO_END)
        if not self.is_ready:
            raise RuntimeError(f"a worker process ended before it could begin (exit code {code})")
        if not self.is_busy:
            return _NOTHING
        return WorkFailure("crash", f"its process ended ({cause_of_end(code)})")


def _serve(connection: Connection, work: Callable[[Any, Heartbeat], Any]) -> None:
    last = time.monotonic()

    def heartbeat() -> None:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            connection.send((_ALIVE, None))

    connection.send((_READY, None))
    while (item := connection.recv()) != _END:
        try:
            answer = (_DONE, work(item, heartbeat))
        except Exception as error:  # whatever one item does to the code, the others go on
            answer = (_RAISED, f"{type(error).__name__}: {error}")
        connection.send(answer)
