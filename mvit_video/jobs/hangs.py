"""Whether work is hung, judged by its CPU time, so that a busy machine makes nothing look hung."""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LONGEST_POLL_SECONDS = 1.0
_SHORTEST_POLL_SECONDS = 0.01
# from one look to the next, at most this many times the pause between them counts
_POLLS_COUNTED = 4
_TASKS = "/proc/self/task"


class HangWatch:
    """Watches work that owes a heartbeat.

    It is hung when it has used more CPU time than allowed since the last heartbeat, or none at all for a long time.
    Waiting for a core is neither: the scheduler gives every waiting thread some CPU time. Time in which nobody looked
    does not count either: whatever stopped the watcher, such as Ctrl-Z, has most likely stopped the work too.

    Args:
        cpu_seconds: returns the CPU time that the work has used so far.
        limit_seconds: CPU time allowed between two heartbeats.
        idle_seconds: wall-clock time without any CPU time after which it is hung; None is `limit_seconds`.
    """

    def __init__(
        self, cpu_seconds: Callable[[], float], limit_seconds: float, idle_seconds: float | None = None
    ) -> None:
        self._cpu_seconds = cpu_seconds
        self.limit_seconds = limit_seconds
        self._idle_seconds = limit_seconds if idle_seconds is None else idle_seconds
        shortest = min(self.limit_seconds, self._idle_seconds) / 4
        self.poll_seconds = min(max(shortest, _SHORTEST_POLL_SECONDS), _LONGEST_POLL_SECONDS)
        self.beat()

    def beat(self) -> None:
        """Note a heartbeat."""
        self._seen = self._at_beat = self._cpu_seconds()
        self._looked_at, self._idle = time.monotonic(), 0.0

    def is_hung(self) -> bool:
        """Look at the CPU time; call it every `poll_seconds` or so."""
        used, now = self._cpu_seconds(), time.monotonic()
        self._idle += min(now - self._looked_at, _POLLS_COUNTED * self.poll_seconds)
        self._looked_at = now
        if used != self._seen:  # less where a thread has ended
            self._seen, self._idle = used, 0.0
        return used - self._at_beat > self.limit_seconds or self._idle > self._idle_seconds


def wait_unless_hung(wait: Callable[[float], object], watch: HangWatch) -> bool:
    """Wait for something that watched work does.

    Args:
        wait: waits for at most so many seconds; returns whether it happened.

    Returns: False where the work is hung.
    """
    watch.beat()
    while not wait(watch.poll_seconds):
        if watch.is_hung():
            return bool(wait(0))
    return True


class EndOfHung:
    """Ends this process when its work hangs, even in native code, which nothing else in the process can stop.

    Args:
        limit_seconds: CPU time that the work may use without a heartbeat, and wall-clock time that it may spend
            without using any.
    """

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._watch: HangWatch | None = None
        threading.Thread(target=self._guard, daemon=True).start()

    @contextmanager
    def watching(self) -> Iterator[Callable[[], None]]:
        """Watch the work of this thread for the while; gives what notes a heartbeat."""
        clock = time.pthread_getcpuclockid(threading.get_ident())
        self._watch = HangWatch(lambda: time.clock_gettime(clock), self._limit_seconds)
        try:
            self._beat()
            yield self._beat
        finally:
            self._watch = None
            faulthandler.cancel_dump_traceback_later()

    def _beat(self) -> None:
        if self._watch is not None:
            self._watch.beat()
        self._put_off()

    def _put_off(self) -> None:
        """Put the end off, which comes from outside of Python."""
        faulthandler.dump_traceback_later(self._limit_seconds, exit=True)

    def _guard(self) -> None:
        """Put the end off as long as the work uses CPU time, but not too much without a heartbeat."""
        while True:
            watch = self._watch
            if watch is not None and not watch.is_hung():
                self._put_off()
            time.sleep(min(self._limit_seconds / 8, 1))


def process_cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process; the time of a clock where the system does not tell it."""
    return _stat(f"/proc/{pid}/stat")[1]


def name_this_thread(name: str) -> None:
    """Give this thread a name for the system, which the threads that it starts inherit.

    Args:
        name: at most 15 letters.
    """
    with suppress(OSError):
        Path(f"{_TASKS}/{threading.get_native_id()}/comm").write_text(name)


def threads_cpu_seconds(name: str) -> float:
    """CPU time of the threads of this process that have a name; 0 where the system does not tell it."""
    threads = os.listdir(_TASKS) if os.path.isdir(_TASKS) else []
    return sum(seconds for found, seconds in (_stat(f"{_TASKS}/{thread}/stat") for thread in threads) if found == name)


def _stat(path: str) -> tuple[str, float]:
    """Name and CPU time of a process or thread."""
    try:
        with open(path) as file:
            before, _, after = file.read().rpartition(")")  # the name may hold blanks and brackets
    except (FileNotFoundError, ProcessLookupError):
        return "", 0.0 if os.path.isdir("/proc/self") else time.monotonic()
    fields = after.split()
    return before.partition("(")[2], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
