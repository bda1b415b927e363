"""Frames through decord, for the files that it decodes exactly."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.data.readers.packet_index import PacketIndex
from mvit_video.data.readers.source import Source
from mvit_video.data.readers.watchdog import BackendFailed, call_with_limit


def decord_refusal(source: Source, index: PacketIndex, strict: bool) -> str | None:
    """Why decord cannot be trusted with a video on this machine, None when it can."""
    if source.data is not None:
        return "decord can crash the process on damaged videos in memory"
    if strict:
        return "it does not report damage"
    try:
        import decord  # noqa: F401
    except (ImportError, OSError) as error:
        return f"decord cannot be imported here ({error})"
    return index.decord_refusal


def read_with_decord(
    source: Source, index: PacketIndex, wanted: NDArray[np.int64], size: tuple[int, int], limit_seconds: float
) -> Tensor:
    """Frames `wanted`, which are sorted and unique, resized to `size`; uint8 `(len(wanted), H, W, 3)`.

    A reader lives for one call: one that is kept decodes ahead in the background, and one that is moved back after
    the end of the file returns stale frames.

    Raises:
        BackendFailed: decord raised, counts other frames than the index, or does not return.
    """
    frames = call_with_limit(lambda: _read(source, index, wanted, size), "decord", limit_seconds)
    if frames.shape != (len(wanted), *size, 3):
        raise BackendFailed(f"decord delivers frames of shape {tuple(frames.shape[1:])}")
    return frames


def _read(source: Source, index: PacketIndex, wanted: NDArray[np.int64], size: tuple[int, int]) -> Tensor:
    import decord

    # its library writes what it thinks of damaged packets to stderr; errors are raised all the same
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
    # the type depends on a process-wide setting that other packages change at import
    return batch if isinstance(batch, Tensor) else torch.from_numpy(batch.asnumpy())
