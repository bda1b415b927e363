"""Formats that features are written in."""

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
    """Puts features on disk; videos are named as `Video.name` has it."""

    def write(self, batch: Sequence[VideoFeatures]) -> None:
        """Writes some videos; a kill leaves each of its files whole or not at all."""
        ...

    def require_free(self, videos: Sequence[str]) -> None:
        """Refuse videos that this format cannot keep apart, or whose files are there already and not ours.

        Called before a run writes, and after `keep_only`.

        Args:
            videos: names of those that the run will write.

        Raises:
            ConfigError: names two videos, or a file.
        """
        ...

    def keep_only(self, listed: Mapping[str, int]) -> Kept:
        """Remove the features of other videos, and of those with another number of windows than is listed.

        Others are videos that will be made again, and those that a kill left unlisted. Where a video was written twice,
        the newer features stay. Files of other programs stay; damaged ones go to the folder `damaged`. Called before a
        run writes.

        Args:
            listed: number of windows of each video that should be there.
        """
        ...

    def finish(self) -> None:
        """Called once when a run has written all."""
        ...


def writer_for(format: str, folder: str | os.PathLike[str], record: Mapping[str, Any]) -> FeatureWriter:
    """The writer of a format.

    Args:
        folder: path of where the files go, with Parquet also a URL.
        record: what is true of all features, as `Extractor.record` has it.

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
