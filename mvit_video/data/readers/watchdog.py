"""An end to calls of native libraries that nothing can interrupt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from mvit_video.jobs.hangs import HangWatch, name_this_thread, threads_cpu_seconds, wait_unless_hung

T = TypeVar("T")

# of CPU time
_BASE_SECONDS = 5.0
# some fifty times what decoding takes
_SECONDS_PER_MEGAPIXEL = 0.25
# libraries read a whole file when they open it, and parse at least so many bytes in a second
_BYTES_PER_SECOND = 20e6
# without any CPU time: a disk or a network share may keep it waiting, and a deadlock does for ever
_IDLE_SECONDS = 60.0
_NUMBERS = count()


class BackendFailed(Exception):
    """A library could not deliver the frames; the text says why."""


class TimedOut(BackendFailed):
    """A library did not return in time; its thread runs until the process ends."""


def call_with_limit(call: Callable[[], T], library: str, seconds: float) -> T:
    """Return what a call returns or raises; it runs in a thread, since nothing stops a native loop.

    Args:
        seconds: CPU time that the call may use, threads that it starts included; the load of the machine and other
            threads of this process do not count.

    Raises:
        TimedOut: it uses more, or none for a minute.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    name = f"decode {next(_NUMBERS)}"

    def run() -> None:
        name_this_thread(name)
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="video decoder", daemon=True)
    thread.start()
    wait_unless_hung(
        lambda timeout: (thread.join(timeout), not thread.is_alive())[1],
        HangWatch(lambda: threads_cpu_seconds(name), seconds, max(_IDLE_SECONDS, seconds)),
    )
    if results:
        return results[0]
    if errors:
        raise errors[0]
    raise TimedOut(f"{library} did not return within {seconds:.0f} s of CPU time")


def decoding_limit(num_frames: int, height: int, width: int, num_bytes: int) -> float:
    """CPU seconds after which decoding so many frames of a file of so many bytes has failed."""
    decoding_seconds = _SECONDS_PER_MEGAPIXEL * num_frames * height * width / 1e6
    return _BASE_SECONDS + decoding_seconds + num_bytes / _BYTES_PER_SECOND
