"""Videos at URLs: which there are, and one of them read by whoever decodes it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import pyarrow as pa
from fsspec import AbstractFileSystem
from numpy.typing import NDArray

from mvit_video.data.table.files import is_text, is_video, warn_of_others
from mvit_video.data.table.video_table import VideoTable
from mvit_video.jobs.arrow import as_strings
from mvit_video.jobs.stores import file_system, is_folder, read_file, stamp_of
from mvit_video.types import AnnotationError, VideoDecodeError

Infos: TypeAlias = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class RemoteFiles:
    """The archive of a table whose videos are files at URLs.

    Attributes:
        versions: size and stamp of each, as its file system has them.
    """

    urls: pa.Array
    versions: pa.Array

    def read(self, row: int) -> bytes:
        """The file of the video in a row."""
        url = self.urls[row].as_py()
        try:
            data = read_file(url)
        except AnnotationError as error:
            raise VideoDecodeError(url, error.reason) from error
        if data is None:
            raise VideoDecodeError(url, "there is no such file")
        return data

    def version(self, row: int) -> str:
        """Size and stamp of the file."""
        return self.versions[row].as_py()

    def take(self, rows: NDArray[np.int64]) -> RemoteFiles:
        """Some of the videos."""
        kept = pa.array(rows)
        return replace(self, urls=self.urls.take(kept), versions=self.versions.take(kept))


def find_remote(source: str) -> VideoTable | None:
    """The videos that a URL names: one, those that fit a pattern, all below a folder; None where it names shards.

    Raises:
        AnnotationError: there are none, or it cannot be listed, or the package of the URL's protocol is missing.
    """
    if not is_folder(source):
        return None
    system, path = file_system(source)
    try:
        if is_video(source) and "*" not in source:
            return _table([source], [_info(system, path)])
        if "*" in source:
            found = cast("Infos", system.glob(path, detail=True))
        elif any(str(entry).endswith(".tar") for entry in system.ls(path, detail=False)):
            return None
        else:
            found = cast("Infos", system.find(path, detail=True))
    except Exception as error:  # each file system has its own
        raise AnnotationError(source, 0, f"cannot be listed ({str(error) or type(error).__name__})") from error
    videos = sorted(entry for entry in found if is_video(entry) and not posixpath.basename(entry).startswith("."))
    if not videos:
        raise AnnotationError(source, 0, "no video and no tar lies there")
    if "*" not in source:
        shown = {entry for entry in found if not posixpath.basename(entry).startswith(".") and not is_text(entry)}
        warn_of_others(path, sorted(shown - set(videos)))
    return _table([str(system.unstrip_protocol(entry)) for entry in videos], [found[entry] for entry in videos])


def _info(system: AbstractFileSystem, path: str) -> Mapping[str, Any]:
    try:
        return system.info(path)
    except Exception:  # each file system has its own; reading the video says what is wrong
        return {}


def _table(urls: list[str], infos: Sequence[Mapping[str, Any]]) -> VideoTable:
    versions = as_strings([f"{info.get('size')} {stamp_of(info)}" for info in infos])
    return VideoTable.of_paths(urls, Path(), archive=RemoteFiles(as_strings(urls), versions))
