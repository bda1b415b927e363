"""Writers of features in several formats."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, get_args

from mvit_video.features.writers.parts import Kept
from mvit_video.jobs import Folder
from mvit_video.types import ConfigError, FeatureFormat

if TYPE_CHECKING:
    from mvit_video.features.videos import VideoFeatures


class FeatureWriter(Protocol):
    """Writer of features; videos have the names of `Video.name`."""

    def write(self, batch: Sequence[VideoFeatures]) -> None:
        """Write some videos; a kill leaves each file complete or absent."""
        ...

    def require_free(self, videos: Sequence[str]) -> None:
        """Refuse new videos that would share a file, or whose files exist and are not of this extraction.

        Called after `keep_only`, before a run writes.

        Raises:
            ConfigError: names two videos, or a file.
        """
        ...

    def keep_only(self, listed: Mapping[str, int]) -> Kept:
        """Remove the features of videos that are not listed with their number of windows.

        Of a video that was written twice, the newer features are kept. Files of other programs are kept; damaged files
        move to the folder `damaged`. Called before a run writes.
        """
        ...

    def finish(self) -> None:
        """Finish a run that has written all its videos."""
        ...


def writer_for(format: str, folder: str | os.PathLike[str], record: Mapping[str, Any]) -> FeatureWriter:
    """Return the writer of a format.

    Args:
        folder: path of the files, with Parquet also a URL.
        record: `Extractor.record`.

    Raises:
        ConfigError: there is no such format, it is not for URLs, or a package that it needs is not installed.
    """
    if format == "parquet":
        from mvit_video.features.writers.parquet import ParquetWriter

        return ParquetWriter(folder, record)
    if format not in get_args(FeatureFormat):
        raise ConfigError(f"--format must be one of {', '.join(get_args(FeatureFormat))}, got {format!r}")
    path = Folder(folder).path
    if path is None:
        raise ConfigError(
            f"--format {format} cannot be written to {os.fspath(folder)}; use parquet, or an --out on this machine"
        )
    if format in ("npy", "video_features"):
        from mvit_video.features.writers.npy import NpyWriter, VideoFeaturesWriter

        return (NpyWriter if format == "npy" else VideoFeaturesWriter)(path, record)
    from mvit_video.features.writers.hdf5 import Hdf5Writer

    return Hdf5Writer(path, record)
