"""Folders that hold one folder of videos, or of pictures, per class."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from mvit_video.data.annotations.arrow import as_strings, is_utf8
from mvit_video.data.annotations.classes import ClassNames
from mvit_video.data.annotations.files import VIDEO_SUFFIXES, is_video, unlistable
from mvit_video.data.annotations.rows import Rows
from mvit_video.data.readers.picture import is_picture
from mvit_video.types import AnnotationError


def read_folders(folder: Path, *, need_all: bool) -> Rows:
    """Videos in the folders of a folder, or pictures where there are no videos; their names, sorted, are the classes.

    Args:
        need_all: whether a folder without videos is an error.

    Raises:
        AnnotationError: a folder holds no videos, or cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        videos = [_files_in(folder / name, is_video) for name in names]
        if not any(map(len, videos)):
            videos = [_files_in(folder / name, is_picture) for name in names]
    except OSError as error:
        raise unlistable(error) from None
    if not any(map(len, videos)):
        suffixes = " ".join(sorted(VIDEO_SUFFIXES))
        raise AnnotationError(folder, 0, f"holds no folder with videos ({suffixes}); give one folder per class")
    empty = next((name for name, files in zip(names, videos, strict=True) if not len(files)), None)
    if empty is not None and need_all:
        raise AnnotationError(folder / empty, 0, "holds no videos; remove the folder or fill it")
    paths = pa.concat_arrays(videos)
    labels = as_strings(names).take(pa.array(np.repeat(np.arange(len(names)), [len(files) for files in videos])))
    return Rows(
        folder,
        np.zeros(len(paths), np.int64),
        paths,
        labels,
        classes=ClassNames(tuple(names), str(folder)),
        are_names=True,
    )


def _files_in(folder: Path, is_wanted: Callable[[str], bool]) -> pa.Array:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if is_wanted(entry.name) and not entry.name.startswith(".")]
    strange = next((name for name in names if not is_utf8(f"{folder.name}/{name}")), None)
    if strange is not None:
        raise AnnotationError(folder, 0, f"holds a video whose name is no UTF-8: {os.fsencode(strange)!r}; rename it")
    return as_strings([f"{folder.name}/{name}" for name in sorted(names)])
