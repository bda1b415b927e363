"""Processes that do another's work: how many, how they start, and how they end."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from mvit_video.jobs.hangs import HangWatch, process_cpu_seconds, wait_unless_hung

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Child:
    """A process that inherits nothing of this one, and ends with it, however it ends; Ctrl-C is left to this one.

    Args:
        serve: what it does, given its end of the pipe and `arguments`; it can be pickled.
        preload: module that each such process needs, imported once for all where the system can.

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
        """Watches whether it is hung."""
        pid = self._process.pid or 0
        return HangWatch(lambda: process_cpu_seconds(pid), limit_seconds)

    def kill(self) -> None:
        """Begins its end; may be called by any thread."""
        self._process.kill()

    def end(self, grace_seconds: float = 0.0) -> int:
        """Closes the pipe, and ends the process where it does not end by itself.

        Args:
            grace_seconds: of CPU time, or without any, that it may take.

        Returns: its exit code.
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches the whole group; the parent decides
    end_with_parent()
    serve(connection, *arguments)


def end_with_parent() -> None:
    """Has this process end when its parent is killed, even if it is lost in native code by then."""
    threading.Thread(target=_await_parent, daemon=True).start()


def killed_with_parent() -> None:
    """Has the kernel kill this process when the thread that started it ends, even while native code holds the GIL.

    On Linux only, and not where a fork server is the parent; `end_with_parent` covers the rest.
    """
    parent = multiprocessing.parent_process()
    if sys.platform == "linux" and parent is not None and parent.pid == os.getppid():
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:  # it ended before the call
            os._exit(1)


def cause_of_end(exit_code: int) -> str:
    """What a process ended of, in words."""
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else f"exit code {exit_code}"
    return f"{name}, perhaps for lack of memory" if -exit_code == signal.SIGKILL else name


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
