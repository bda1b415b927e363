"""Formats that features are written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import pyarrow as pa

from mvit_video.types import ConfigError

if TYPE_CHECKING:
    from mvit_video.features.videos import VideoFeatures

Format = Literal["parquet", "npy", "video_features", "hdf5"]


class FeatureWriter(Protocol):
    """Puts features on disk; videos are named as `writers.naming.group_name` names them."""

    def write(self, batch: Sequence[VideoFeatures]) -> None:
        """Writes some videos; a kill leaves each of its files whole or not at all."""
        ...

    def keep_only(self, videos: pa.StringArray) -> None:
        """Removes features of other videos: of those that will be made anew, and of those that a kill left unlisted.

        Where a video was written twice, the newer features stay. Called before a run writes.
        """
        ...

    def finish(self) -> None:
        """Called once when a run has written all."""
        ...


def writer_for(format: str, folder: Path, record: Mapping[str, Any]) -> FeatureWriter:
    """The writer of a format.

    Args:
        folder: where the files go.
        record: what is true of all features, as `Extractor.record` has it.

    Raises:
        ConfigError: there is no such format, or a package that it needs is not installed.
    """
    if format == "parquet":
        from mvit_video.features.writers.parquet import ParquetWriter

        return ParquetWriter(folder, record)
    if format in ("npy", "video_features"):
        from mvit_video.features.writers.npy import NpyWriter, VideoFeaturesWriter

        return (NpyWriter if format == "npy" else VideoFeaturesWriter)(folder, record)
    if format == "hdf5":
        from mvit_video.features.writers.hdf5 import Hdf5Writer

        return Hdf5Writer(folder, record)
    raise ConfigError(f"--format must be one of {', '.join(get_args(Format))}, got {format!r}")
