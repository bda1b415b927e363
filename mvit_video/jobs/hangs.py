"""Detection of hung work by its CPU time, which does not depend on the load of the machine."""

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
# at most this many polling intervals count from one check to the next
_POLLS_COUNTED = 4
_TASKS = "/proc/self/task"


class HangWatch:
    """Watch over work that must send heartbeats.

    Work is hung if it has used more CPU time than allowed since its last heartbeat, or none for a long time. Waiting
    for a core is neither, since the scheduler gives every thread some CPU time. Time without checks does not count:
    Ctrl-Z, for example, stops the watch and the work.

    Args:
        cpu_seconds: returns the CPU time of the work so far.
        limit_seconds: CPU time allowed between two heartbeats.
        idle_seconds: wall-clock time without CPU time after which work is hung; None is `limit_seconds`.
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
        """Record a heartbeat."""
        self._seen = self._at_beat = self._cpu_seconds()
        self._looked_at, self._idle = time.monotonic(), 0.0

    def is_hung(self) -> bool:
        """Check the CPU time; call this about every `poll_seconds`."""
        used, now = self._cpu_seconds(), time.monotonic()
        self._idle += min(now - self._looked_at, _POLLS_COUNTED * self.poll_seconds)
        self._looked_at = now
        if used != self._seen:  # less where a thread has ended
            self._seen, self._idle = used, 0.0
        return used - self._at_beat > self.limit_seconds or self._idle > self._idle_seconds


def wait_unless_hung(wait: Callable[[float], object], watch: HangWatch) -> bool:
    """Wait for watched work, and return False if it is hung.

    Args:
        wait: waits for at most so many seconds; returns whether the work is done.
    """
    watch.beat()
    while not wait(watch.poll_seconds):
        if watch.is_hung():
            return bool(wait(0))
    return True


class EndOfHung:
    """Guard that ends this process if its work hangs, even in native code.

    Args:
        limit_seconds: CPU time without a heartbeat, and wall-clock time without CPU time, after which work is hung.
    """

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._watch: HangWatch | None = None
        threading.Thread(target=self._guard, daemon=True).start()

    @contextmanager
    def watching(self) -> Iterator[Callable[[], None]]:
        """Watch the work of this thread within a block; give the function that records a heartbeat."""
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
        """Start the countdown to the end again; it runs outside of Python."""
        faulthandler.dump_traceback_later(self._limit_seconds, exit=True)

    def _guard(self) -> None:
        """Keep the process while the work uses CPU time, but not too much without a heartbeat."""
        while True:
            watch = self._watch
            if watch is not None and not watch.is_hung():
                self._put_off()
            time.sleep(min(self._limit_seconds / 8, 1))


def process_cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process; wall-clock time if the system does not report it."""
    return _stat(f"/proc/{pid}/stat")[1]


def name_this_thread(name: str) -> None:
    """Name this thread for the system, with at most 15 letters; threads that it starts inherit the name."""
    with suppress(OSError):
        Path(f"{_TASKS}/{threading.get_native_id()}/comm").write_text(name)


def threads_cpu_seconds(name: str) -> float:
    """Return the CPU time of this process's threads of a name; 0 if the system does not report it."""
    threads = os.listdir(_TASKS) if os.path.isdir(_TASKS) else []
    return sum(seconds for found, seconds in (_stat(f"{_TASKS}/{thread}/stat") for thread in threads) if found == name)


def _stat(path: str) -> tuple[str, float]:
    """Return name and CPU time of a process or thread."""
    try:
        with open(path) as file:
            before, _, after = file.read().rpartition(")")  # the name may have blanks and brackets
    except (FileNotFoundError, ProcessLookupError):
        return "", 0.0 if os.path.isdir("/proc/self") else time.monotonic()
    fields = after.split()
    return before.partition("(")[2], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
