"""Processes that do another's work: how many, how they start, and how they end."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from typing import Any

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def child_context(preload: str) -> Any:
    """A way to start processes that inherit nothing of this one, and are quick to replace where the system can.

    Args:
        preload: module that each of them needs, imported once for all.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    return context


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
