"""Videos at URLs: which there are, and one of them read by whoever decodes it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.annotations import VideoTable
from mvit_video.data.annotations.arrow import as_strings
from mvit_video.data.annotations.files import is_video
from mvit_video.data.shards.storage import file_system, is_folder, read_file
from mvit_video.types import AnnotationError, ConfigError, VideoDecodeError


@dataclass(frozen=True, eq=False)
class RemoteFiles:
    """The archive of a table whose videos are files at URLs."""

    urls: pa.Array

    def read(self, row: int) -> bytes:
        """The file of the video in a row.

        Raises:
            VideoDecodeError: it cannot be read.
        """
        url = self.urls[row].as_py()
        try:
            data = read_file(url)
        except AnnotationError as error:
            raise VideoDecodeError(url, error.reason) from error
        if data is None:
            raise VideoDecodeError(url, "there is no such file")
        return data

    def take(self, rows: NDArray[np.int64]) -> RemoteFiles:
        """Some of the videos."""
        return replace(self, urls=self.urls.take(pa.array(rows)))


def find_remote(source: str) -> VideoTable | None:
    """The videos that a URL names: one, those that fit a pattern, all below a folder; None where it names shards.

    Raises:
        ConfigError: there are none, or it cannot be listed.
        AnnotationError: the URL's protocol is unknown, or its package is missing.
    """
    if not is_folder(source):
        return None
    if is_video(source) and "*" not in source:
        return _table([source])
    system, path = file_system(source)
    try:
        if "*" in source:
            found = cast("list[str]", system.glob(path))
        elif any(str(entry).endswith(".tar") for entry in system.ls(path, detail=False)):
            return None
        else:
            found = cast("list[str]", system.find(path))
    except Exception as error:  # each file system has its own
        raise ConfigError(f"INPUT {source}: cannot be listed ({str(error) or type(error).__name__})") from error
    videos = sorted(entry for entry in found if is_video(entry) and not posixpath.basename(entry).startswith("."))
    if not videos:
        raise ConfigError(f"INPUT {source}: no video and no tar lies there")
    return _table([str(system.unstrip_protocol(entry)) for entry in videos])


def _table(urls: list[str]) -> VideoTable:
    paths = as_strings(urls)
    return VideoTable(paths, np.full(len(urls), -1, dtype=np.int64), None, Path(), archive=RemoteFiles(paths))
