"""An end to calls of native libraries that nothing can interrupt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_BASE_SECONDS = 5.0
# some fifty times what decoding takes
_SECONDS_PER_MEGAPIXEL = 0.25
# libraries read a whole file when they open it, from a slow disk at this rate
_BYTES_PER_SECOND = 20e6


class BackendFailed(Exception):
    """A library could not deliver the frames; the text says why."""


class TimedOut(BackendFailed):
    """A library did not return in time; its thread goes on until the process ends."""


def call_with_limit(call: Callable[[], T], library: str, seconds: float) -> T:
    """What a call returns or raises; it runs in a thread, since nothing stops a native loop.

    Raises:
        TimedOut: it takes longer than `seconds`.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="video decoder", daemon=True)
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    if errors:
        raise errors[0]
    raise TimedOut(f"{library} did not return within {seconds:.0f} s")


def decoding_limit(num_frames: int, height: int, width: int, num_bytes: int) -> float:
    """Seconds after which decoding so many frames of a file of so many bytes has failed, on any machine."""
    decoding_seconds = _SECONDS_PER_MEGAPIXEL * num_frames * height * width / 1e6
    return _BASE_SECONDS + decoding_seconds + num_bytes / _BYTES_PER_SECOND
