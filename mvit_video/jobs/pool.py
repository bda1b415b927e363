"""Worker processes that may crash or hang without harm to others."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, NamedTuple, TypeVar

from mvit_video.jobs.hangs import HangWatch, process_cpu_seconds, wait_unless_hung

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Child:
    """Process that inherits nothing from this one and ends with it; it ignores Ctrl-C.

    Args:
        serve: picklable function of its end of the pipe and `arguments`.
        preload: module to import once for all such processes, if the system can.

    Attributes:
        connection: this process's end of the pipe.
    """

    def __init__(self, serve: Callable[..., None], *arguments: Any, preload: str) -> None:
        context = _context(preload)
        self.connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_begin, args=(serve, theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    def watch(self, limit_seconds: float) -> HangWatch:
        """Return a watch for hangs of the process."""
        pid = self._process.pid or 0
        return HangWatch(lambda: process_cpu_seconds(pid), limit_seconds)

    def kill(self) -> None:
        """Kill the process, from any thread."""
        self._process.kill()

    def end(self, grace_seconds: float = 0.0) -> int:
        """Close the pipe, wait for the process, kill it if it hangs, and return its exit code.

        Args:
            grace_seconds: CPU time, or time without CPU time, that it may take to end.
        """
        self.connection.close()
        if grace_seconds:
            wait_unless_hung(lambda timeout: wait([self._process.sentinel], timeout), self.watch(grace_seconds))
        self._process.kill()
        self._process.join()
        return self._process.exitcode or 0


def _context(preload: str) -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    return context


def _begin(serve: Callable[..., None], connection: Any, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it
    end_with_parent()
    serve(connection, *arguments)


def end_with_parent() -> None:
    """Make this process end when its parent is killed, even in native code."""
    threading.Thread(target=_await_parent, daemon=True).start()


def killed_with_parent() -> None:
    """Make the kernel kill this process when the thread that started it ends, even while native code holds the GIL.

    Works on Linux without a fork server; `end_with_parent` covers other cases.
    """
    parent = multiprocessing.parent_process()
    if sys.platform == "linux" and parent is not None and parent.pid == os.getppid():
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:  # it ended before the call
            os._exit(1)


def cause_of_end(exit_code: int) -> str:
    """Describe why a process ended."""
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else f"exit code {exit_code}"
    return f"{name}, perhaps out of memory" if -exit_code == signal.SIGKILL else name


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


Item = TypeVar("Item")
Result = TypeVar("Result")
Heartbeat = Callable[[], None]

_READY, _ALIVE, _DONE, _RAISED = range(4)
_NOTHING: Any = object()
_SECONDS_TO_END = 10.0
_END = "the end of the items"


class WorkFailure(NamedTuple):
    """Reason why an item has no result."""

    kind: Literal["time-out", "crash", "error"]
    reason: str


def run_in_processes(
    work: Callable[[Item, Heartbeat], Result], items: Iterable[Item], num_workers: int, limit_seconds: float
) -> Generator[tuple[Item, Result | WorkFailure], None, None]:
    """Yield the results of `work(item, heartbeat)` as they are ready.

    Items are taken as workers become free. A worker that dies or misses its heartbeat is replaced, and its item is
    reported as failed; long work calls `heartbeat` now and then. Workers end with this process.

    Args:
        work: picklable function of an item, sent to each process once.
        limit_seconds: CPU time without a heartbeat, and wall-clock time without CPU time, after which a worker counts
            as hung.

    Raises:
        RuntimeError: a worker cannot start.
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
    """Worker process and its item."""

    def __init__(self, work: Callable[[Any, Heartbeat], Any], limit_seconds: float) -> None:
        self._child = Child(_serve, work, preload="mvit_video.data.readers")
        self.connection, self.watch = self._child.connection, self._child.watch(limit_seconds)
        self.item: Any = None
        self.is_ready = self.is_busy = self.is_dead = self.is_finished = False

    def hear(self) -> Any:
        """Return the outcome of the item; `_NOTHING` after a heartbeat."""
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
        """Give an idle worker another item; without one it ends."""
        if not self.is_ready or self.is_busy:
            return
        try:
            self.item = next(remaining)
            self.is_busy = True
            self.watch.beat()
        except StopIteration:
            self.item, self.is_finished = _END, True
        with suppress(OSError):  # it has just died; the next hear() reports it
            self.connection.send(self.item)

    def end(self, grace_seconds: float = 0.0) -> int:
        """End the process and return its exit code."""
        self.is_dead = True
        return self._child.end(grace_seconds)

    def _died(self) -> Any:
        code = self.end(_SECONDS_TO_END)
        if not self.is_ready:
            raise RuntimeError(f"a worker process ended before it was ready (exit code {code})")
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
        except Exception as error:  # other items must not be affected
            answer = (_RAISED, f"{type(error).__name__}: {error}")
        connection.send(answer)
