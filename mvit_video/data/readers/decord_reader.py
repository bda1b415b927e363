"""Frames through decord, for the files that it decodes exactly."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.data.readers.packet_index import PacketIndex, Source


class DecordFailed(Exception):
    """decord could not deliver the frames; the text says why."""


def decord_refusal(source: Source, index: PacketIndex) -> str | None:
    """Why decord cannot be trusted with a video on this machine, None when it can."""
    if source.data is not None:
        return "it crashes the process on some damaged videos that lie in memory"
    try:
        import decord  # noqa: F401
    except (ImportError, OSError) as error:
        return f"decord cannot be imported here ({error})"
    return index.decord_refusal


def read_with_decord(source: Source, index: PacketIndex, wanted: NDArray[np.int64]) -> Tensor:
    """Frames `wanted`, which are sorted and unique; uint8 `(len(wanted), H, W, 3)`.

    A reader lives for one call: one that is kept decodes ahead in the background, and one that is moved back after
    the end of the file returns stale frames.

    Raises:
        DecordFailed: decord raised, or counts other frames than the index.
    """
    import decord

    # its library writes what it thinks of damaged packets to stderr; errors are raised all the same
    decord.logging.set_level(decord.logging.QUIET)
    try:
        # automatic threads fail on some VP9 files
        reader = decord.VideoReader(source.name, num_threads=1)
        if len(reader) != index.num_frames:
            raise DecordFailed(f"decord counts {len(reader)} frames, PyAV {index.num_frames}")
        batch = reader.get_batch(wanted)
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        raise DecordFailed("decord failed on it") from error
    # the type depends on a process-wide setting that other packages change at import
    return batch if isinstance(batch, Tensor) else torch.from_numpy(batch.asnumpy())
