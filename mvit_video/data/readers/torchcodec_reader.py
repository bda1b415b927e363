"""Frames through torchcodec, which is optional, for the files that it decodes exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.data.readers.packet_index import PacketIndex
from mvit_video.data.readers.source import Source
from mvit_video.data.readers.watchdog import BackendFailed, call_with_limit
from mvit_video.types import ConfigError


def require_torchcodec() -> None:
    """Refuse a machine on which torchcodec cannot be imported."""
    try:
        import torchcodec  # noqa: F401  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            "backend torchcodec cannot be imported; "
            f"install mvit-video[torchcodec] and FFmpeg's libraries, or choose another backend ({reason})"
        ) from error


def read_with_torchcodec(
    source: Source, index: PacketIndex, wanted: NDArray[np.int64], size: tuple[int, int], limit_seconds: float
) -> Tensor:
    """Frames `wanted`, which are sorted and unique, resized to `size`; uint8 `(len(wanted), H, W, 3)`.

    Raises:
        BackendFailed: torchcodec raised, delivers other frames than the index lists, or does not return.
    """
    return call_with_limit(lambda: _read(source, index, wanted, size), "torchcodec", limit_seconds)


def _read(source: Source, index: PacketIndex, wanted: NDArray[np.int64], size: tuple[int, int]) -> Tensor:
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
        raise BackendFailed("torchcodec delivers other frames than asked for")
    if tuple(batch.data.shape) != (len(wanted), *size, 3):
        raise BackendFailed(f"torchcodec delivers frames of shape {tuple(batch.data.shape[1:])}")
    return batch.data
