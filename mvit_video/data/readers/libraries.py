"""Frames from decord and torchcodec, for files that they decode exactly, with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.data.readers.packet_index import PacketIndex
from mvit_video.data.readers.source import Source
from mvit_video.jobs.hangs import HangWatch, name_this_thread, threads_cpu_seconds, wait_unless_hung
from mvit_video.types import ConfigError

T = TypeVar("T")

_BASE_SECONDS = 5.0  # of CPU time
_SECONDS_PER_MEGAPIXEL = 0.25  # some fifty times that of decoding
_BYTES_PER_SECOND = 20e6  # libraries parse the complete file when they open it
_IDLE_SECONDS = 60.0  # without CPU time: waits for a disk or share end, deadlocks do not
_NUMBERS = count()
NO_DAMAGE_REPORT = "it does not report damage"


class BackendFailed(Exception):
    """A library could not return the frames; the text says why."""


class TimedOut(BackendFailed):
    """A library did not return in time; its thread runs on until the process ends."""


def call_with_limit(call: Callable[[], T], library: str, seconds: float) -> T:
    """Run a call of a native library in a thread, and return what it returns or raise what it raises.

    Args:
        seconds: CPU time that the call and its threads may use; other threads and the load of the machine do not count.

    Raises:
        TimedOut: the call uses more, or none for a minute.
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
    """Return the limit in CPU seconds for decoding frames of a file."""
    decoding_seconds = _SECONDS_PER_MEGAPIXEL * num_frames * height * width / 1e6
    return _BASE_SECONDS + decoding_seconds + num_bytes / _BYTES_PER_SECOND


def decord_refusal(source: Source, index: PacketIndex, strict: bool) -> str | None:
    """Return why decord cannot decode a video exactly on this machine; None if it can."""
    if source.data is not None:
        return "decord can crash the process on damaged videos in memory"
    if strict:
        return NO_DAMAGE_REPORT
    try:
        import decord  # noqa: F401
    except (ImportError, OSError) as error:
        return f"decord cannot be imported here ({error})"
    return index.decord_refusal


def read_with(
    library: str, source: Source, index: PacketIndex, wanted: NDArray[np.int64], size: tuple[int, int], seconds: float
) -> Tensor:
    """Return frames with decord or torchcodec; uint8 `(len(wanted), H, W, 3)`.

    Args:
        wanted: sorted and unique frame indices.
        size: height and width of the frames.
        seconds: limit of CPU time.

    Raises:
        BackendFailed: the library raised, counts or returns other frames than the index, or does not return.
    """
    read = _read_with_decord if library == "decord" else _read_with_torchcodec
    frames = call_with_limit(lambda: read(source, index, wanted, size), library, seconds)
    if frames.shape != (len(wanted), *size, 3):
        raise BackendFailed(f"{library} returns frames of shape {tuple(frames.shape[1:])}")
    return frames


def _read_with_decord(source: Source, index: PacketIndex, wanted: NDArray[np.int64], size: tuple[int, int]) -> Tensor:
    """Decode with a new reader: a kept one decodes ahead, and returns stale frames after the end of the file."""
    import decord

    # it writes about damaged packets to stderr; errors are raised anyway
    decord.logging.set_level(decord.logging.QUIET)
    height, width = (-1, -1) if size == (index.height, index.width) else size
    try:
        # automatic threads fail on some VP9 files
        reader = decord.VideoReader(source.path, num_threads=1, height=height, width=width)
        if len(reader) != index.num_frames:
            raise BackendFailed(f"decord counts {len(reader)} frames, PyAV {index.num_frames}")
        batch = reader.get_batch(wanted)
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        raise BackendFailed("decord failed on it") from error
    # the type depends on a process-wide setting that other packages change
    return batch if isinstance(batch, Tensor) else torch.from_numpy(batch.asnumpy())


def require_torchcodec() -> None:
    """Refuse torchcodec if it cannot be imported."""
    try:
        import torchcodec  # noqa: F401  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            "backend torchcodec cannot be imported; "
            f"install mvit-video[torchcodec] and FFmpeg's libraries, or choose another backend ({reason})"
        ) from error


def _read_with_torchcodec(
    source: Source, index: PacketIndex, wanted: NDArray[np.int64], size: tuple[int, int]
) -> Tensor:
    from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]
    from torchvision.transforms import v2

    resize = None if size == (index.height, index.width) else [v2.Resize(size)]
    try:
        decoder = VideoDecoder(
            source.path if source.data is None else source.data,
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            seek_mode="exact",
            transforms=resize,
        )
        if len(decoder) != index.num_frames:
            raise BackendFailed(f"torchcodec counts {len(decoder)} frames, PyAV {index.num_frames}")
        batch = decoder.get_frames_at(wanted.tolist())
    except (RuntimeError, ValueError, IndexError) as error:
        raise BackendFailed("torchcodec failed on it") from error
    assert index.pts is not None
    expected = index.pts[wanted] * float(index.time_base)
    if np.abs(batch.pts_seconds.numpy() - expected).max() > 0.5 / index.fps:
        raise BackendFailed("torchcodec returns other frames than requested")
    return batch.data
