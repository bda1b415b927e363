"""Containers opened with PyAV 17 to 19, which differ in some of their interfaces."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Any, Protocol

import av
from av.container import InputContainer
from av.error import ArgumentError, ExitError, FFmpegError

from mvit_video.data.readers.source import Source
from mvit_video.types import VideoDecodeError

MAX_PIXELS = 2**28
# a playlist would have the decoder open other files and addresses, a text or an image would pass for a video
_FORMATS = (
    "mov mp4 m4a 3gp 3g2 mj2 matroska webm avi mpegts mpegtsraw mpeg mpegvideo flv live_flv asf asf_o ogg nut mxf rm "
    "dv dhav gxf ivf m4v h261 h263 h264 hevc vvc av1 obu vc1 mjpeg gif nsv nuv ivr wtv ty smjpeg film_cpk bink smk"
)

_OPEN_SECONDS = 8.0
# PyAV's limits are wall-clock time, which says little on a busy machine or a slow share
_OPEN_TRIES = 6
_READ_SECONDS = 120.0
# metadata need not be UTF-8; from version 19 on PyAV keeps other bytes by itself and has no such argument
_METADATA: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


class Rational(Protocol):
    """PyAV's rational number: a `Fraction` up to version 18, `av.rational.AVRational` since 19."""

    @property
    def numerator(self) -> int: ...

    @property
    def denominator(self) -> int: ...


def as_fraction(value: Rational | None) -> Fraction | None:
    """Convert to a `Fraction`; None where the value is unknown, which FFmpeg writes as 0/1 or 0/0."""
    if value is None or value.numerator == 0 or value.denominator == 0:
        return None
    return Fraction(value.numerator, value.denominator)


def open_container(source: Source) -> InputContainer:
    """Open a video container for reading."""
    # the size limit also holds while the library probes, before there is a size to look at
    options = {"format_whitelist": ",".join(_FORMATS.split()), "max_pixels": str(MAX_PIXELS)}
    seconds = _OPEN_SECONDS
    for _ in range(_OPEN_TRIES):
        began = time.thread_time()
        try:
            with Translated(source):
                return av.open(source.handle(), "r", options=options, timeout=(seconds, _READ_SECONDS), **_METADATA)
        except VideoDecodeError as error:
            # FFmpeg worked on it for too long itself, and did not just wait for a core or a disk
            if not isinstance(error.__cause__, ExitError) or time.thread_time() - began > _OPEN_SECONDS / 2:
                raise
            seconds *= 2
    raise VideoDecodeError(source.name, f"could not be opened within {seconds:.0f} s")


class Translated:
    """Context that turns the errors of PyAV into ours.

    A class, because Python 3.10 leaves a generator's context in a reference cycle, and the file open, when the
    generator that uses it is dropped halfway.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        reason = None if error is None else _reason(error)
        if reason is not None:
            raise VideoDecodeError(self._source.name, reason) from error


def _reason(error: BaseException) -> str | None:
    """Word what an error says of a video; None where it says nothing of it."""
    if isinstance(error, ExitError):
        return "could not be read in reasonable time"
    if isinstance(error, ArgumentError):
        return "cannot be decoded (not a video container that is read here)"
    if isinstance(error, FFmpegError):
        return f"cannot be decoded ({error.strerror or error})"
    if isinstance(error, (OSError, EOFError, MemoryError, LookupError, ValueError)):
        return f"cannot be read ({error or type(error).__name__})"
    return None


def x264_options(preset: str, crf: int, *, b_frames: bool = True, **parameters: int | str) -> dict[str, str]:
    """Return options of FFmpeg's encoder `libx264` with which the same frames give the same bytes at each run.

    One thread, since the bytes depend on their number. No macroblock tree where there are B-frames: there it reads
    memory that nobody wrote, and the same frames come out differently from run to run (tests/curation/test_x264.py).

    Args:
        crf: constant rate factor, 0 (lossless) to 51.
        parameters: others of x264, such as `keyint`.
    """
    own = {"mbtree": 0} if b_frames else {"bframes": 0}
    text = ":".join(f"{name.replace('_', '-')}={value}" for name, value in (own | parameters).items())
    return {"preset": preset, "crf": str(crf), "threads": "1", "x264-params": text}
