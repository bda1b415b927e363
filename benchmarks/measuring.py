"""Measures of the benchmarks: CPU time, which other programs disturb less than the clock, and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Return the CPU seconds of this process, and the result of the work."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of this process."""
    return timed(work)[0]


def median_cpu_seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median over so many rounds."""
    return statistics.median(cpu_seconds(work) for _ in range(rounds))


def resident_megabytes() -> float:
    """Return the memory of this process; shared pages count in part."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(rollup.split("Pss:")[1].split()[0]) / 2**10
