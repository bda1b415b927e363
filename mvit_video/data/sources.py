"""Videos that a user names: annotations, files, folders and URLs."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import pyarrow as pa
from fsspec import AbstractFileSystem
from numpy.typing import NDArray

from mvit_video.data.annotations import load_annotations, may_exist
from mvit_video.data.table.files import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    is_text,
    is_video,
    printable,
    unlistable,
    videos_below,
    warn_of_others,
)
from mvit_video.data.table.video_table import VideoTable
from mvit_video.jobs.arrow import as_strings, first, matches
from mvit_video.jobs.files import nearest
from mvit_video.jobs.stores import file_system, is_folder, read_file, stamp_of
from mvit_video.types import AnnotationError, ConfigError, VideoDecodeError

Infos: TypeAlias = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class RemoteFiles:
    """Archive of videos at URLs; `versions` are size and stamp of each."""

    urls: pa.Array
    versions: pa.Array

    def read(self, row: int) -> bytes:
        """Return the bytes of the video in a row."""
        url = self.urls[row].as_py()
        try:
            data = read_file(url)
        except AnnotationError as error:
            raise VideoDecodeError(url, error.reason) from error
        if data is None:
            raise VideoDecodeError(url, "no such file")
        return data

    def version(self, row: int) -> str:
        """Return size and stamp of a video."""
        return self.versions[row].as_py()

    def take(self, rows: NDArray[np.int64]) -> RemoteFiles:
        """Return the archive of some videos."""
        kept = pa.array(rows)
        return replace(self, urls=self.urls.take(kept), versions=self.versions.take(kept))


def find_remote(source: str) -> VideoTable | None:
    """Return the videos at a URL of a video, a pattern or a folder; None if it names shards.

    Raises:
        AnnotationError: there are no videos, the URL cannot be listed, or the package of its protocol is missing.
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
    except Exception as error:  # file systems raise errors of their own
        raise AnnotationError(source, 0, f"cannot be listed ({str(error) or type(error).__name__})") from error
    videos = sorted(entry for entry in found if is_video(entry) and not posixpath.basename(entry).startswith("."))
    if not videos:
        raise AnnotationError(source, 0, "has no videos and no .tar files")
    if "*" not in source:
        shown = {entry for entry in found if not posixpath.basename(entry).startswith(".") and not is_text(entry)}
        warn_of_others(path, sorted(shown - set(videos)))
    return _table([str(system.unstrip_protocol(entry)) for entry in videos], [found[entry] for entry in videos])


def _info(system: AbstractFileSystem, path: str) -> Mapping[str, Any]:
    try:
        return system.info(path)
    except Exception:  # reading the video reports the error
        return {}


def _table(urls: list[str], infos: Sequence[Mapping[str, Any]]) -> VideoTable:
    versions = as_strings([f"{info.get('size')} {stamp_of(info)}" for info in infos])
    return VideoTable.of_paths(urls, Path(), archive=RemoteFiles(as_strings(urls), versions))


_NUM_TRIED = 20
_UNSET = "to use only data.root, a folder of your own, add --data.train null --data.val null --data.test null"
_START_BYTES = 4096
_IMAGE = rf"(?i)\.(?:{'|'.join(suffix[1:] for suffix in sorted(IMAGE_SUFFIXES))})$"


def find_videos(
    source: str,
    root: str | None = None,
    *,
    labels: Literal["required", "optional"] = "required",
    class_names: Sequence[str] | str | os.PathLike[str] | None = None,
    allow_outside: bool = False,
) -> VideoTable:
    """Return the videos of a source, with their labels.

    Args:
        source: annotations as for `load_annotations`; if labels are optional, also a list of paths, a video, a folder
            with videos anywhere below it, or the URL of a video, a pattern or a folder.
        root: folder of relative paths; None is the folder of the annotations.
        labels: "required" refuses annotations without labels; "optional" gives them unknown labels, and
            `unlabelled_because` of the table says why.
        class_names: class names in the order of their numbers, or a file of them.
        allow_outside: allow videos outside of the root.

    Raises:
        AnnotationError: the source does not exist, has no videos, or cannot be read.
    """
    load = partial(load_annotations, source, root, allow_outside=allow_outside, class_names=class_names)
    if labels == "required" or source.endswith(".tar"):
        return load()
    if "://" in source:
        remote = find_remote(source)
        return load() if remote is None else remote
    if not may_exist(source):
        raise AnnotationError(source, 0, "no such file or folder")
    if os.path.isdir(source):
        return _find_in_folder(Path(source), load)
    if is_video(source):
        return VideoTable.of_paths([source], Path())
    if _is_binary(source):
        raise AnnotationError(
            source, 0, "is not annotations (text or Parquet), and does not have the suffix of a video "
            f"({_suffixes()}); rename it if it is a video"
        )  # fmt: skip
    return load(need_labels=False)


def _find_in_folder(folder: Path, load: Callable[[], VideoTable]) -> VideoTable:
    """Return the videos below a folder, with labels if it has only class folders."""
    if any(folder.glob("*.tar")):
        return load()
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise unlistable(error) from None
    if any(is_video(name) and not name.startswith(".") for name in names):
        because = "the folder has videos rather than one folder per class"
    else:
        try:
            return load()
        except AnnotationError as error:
            because = error.reason
    # columns hold UTF-8 only; with an escaped name, the video is at least reported as missing
    paths = [printable(os.path.relpath(path, folder)) for path in videos_below(folder)]
    if not paths:
        raise AnnotationError(folder, 0, f"has no videos ({_suffixes()})")
    return VideoTable.of_paths(paths, folder, unlabelled_because=because)


def _is_binary(source: str) -> bool:
    """Return whether a file is neither text nor Parquet."""
    if not os.path.isfile(source):
        return False
    try:
        with open(source, "rb") as file:
            start = file.read(_START_BYTES)
    except OSError:  # reading it reports the error
        return False
    return b"\0" in start and not start.startswith((b"PAR1", b"\xff\xfe", b"\xfe\xff"))  # Parquet; UTF-16


def _suffixes() -> str:
    return " ".join(sorted(VIDEO_SUFFIXES))


def require_videos(table: VideoTable, verb: str) -> None:
    """Refuse a data set of images."""
    image = first(matches(table.paths, _IMAGE))
    if image is not None:
        raise ConfigError(f"{verb} is for videos, {table.path(image)!r} is an image; train on images as they are")


def how_to_get(source: str | os.PathLike[str] = "", root: str | None = None) -> str:
    """Return advice about missing annotations, for messages; `root` is `data.root` of the config."""
    path = Path(source)
    if near := nearest(path):
        return f"did you mean {near}?"
    if root is not None:
        return f"data.root={root} is the folder of its relative paths; {_UNSET}"
    command = ["python", "-m", "mvit_video.data.digits"]
    if demo := re.match(r"(?P<root>(.*/)?data/demo)/(?P<labels>[^/]+)/", path.as_posix()):
        command += ["--root", demo["root"], "--labels", demo["labels"]]
        return f"`{shlex.join(command)}` writes it (docs/guides/videos.md shows how to lay out other videos)"
    return (
        "docs/guides/videos.md shows how to lay out videos; configs/demo.yaml uses the videos that "
        f"`{shlex.join(command)}` writes"
    )


def require_root(root: str | None) -> None:
    """Refuse a missing root."""
    if root is not None and not os.path.exists(root):
        near = nearest(Path(root))
        hint = f"did you mean {near}?" if near else "give the folder of the relative paths in the annotations"
        raise ConfigError(f"data.root: there is no {root}; {hint}")


def require_under_root(table: VideoTable, key: str, source: str, root: str | None) -> None:
    """Refuse a root without any of the first videos of the annotations in `key`, such as `data.train`."""
    if root is None or table.archive is not None or not len(table):
        return
    tried = [table.locate(row) for row in range(min(_NUM_TRIED, len(table)))]
    if not any(path.exists() for path in tried):
        raise ConfigError(f"data.root={root}: there is no {tried[0]}, which is in {key}={source}; {_UNSET}")
