"""Folders of class folders with videos or images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mvit_video.data.table.classes import ClassNames
from mvit_video.data.table.files import (
    SPLITS,
    VIDEO_SUFFIXES,
    files_below,
    first_few,
    is_image,
    is_text,
    is_video,
    printable,
    unlistable,
    warn_of_others,
)
from mvit_video.data.table.rows import Rows
from mvit_video.jobs.arrow import as_strings, is_utf8
from mvit_video.types import AnnotationError


def read_folders(folder: Path, *, need_all: bool) -> Rows:
    """Read the videos in class folders, or images if there are no videos.

    The sorted folder names are the classes; a class folder may have folders.

    Args:
        need_all: whether a class without videos is an error.

    Raises:
        AnnotationError: a folder has no videos, cannot be listed, or is not a folder of class folders.
    """
    try:
        with os.scandir(folder) as entries:
            entries = [entry for entry in entries if not entry.name.startswith(".")]
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise unlistable(error) from None
    for is_wanted in (is_video, is_image):
        listed = [files_below(folder / name, is_wanted) for name in names]
        if any(found.wanted for found in listed):
            break
    else:
        suffixes = " ".join(sorted(VIDEO_SUFFIXES))
        raise AnnotationError(folder, 0, f"has no folder with videos ({suffixes}); make one folder per class")
    files = [_relative(folder, found.wanted) for found in listed]
    empty = next((name for name, found in zip(names, files, strict=True) if not found), None)
    if empty is not None and need_all:
        others = listed[names.index(empty)].others
        shown = f" ({len(others)} other files, the first is {printable(os.path.basename(others[0]))})" if others else ""
        raise AnnotationError(folder / empty, 0, f"has no videos{shown}; remove the folder or add videos")
    _check_level(folder, names, files)
    files_beside = sorted(entry.name for entry in entries if not entry.is_dir())
    loose = [name for name in files_beside if is_wanted(name)]
    if loose:
        warnings.warn(f"{folder}: ignoring videos that are not in a class folder: {first_few(loose)}", stacklevel=3)
    others = [os.path.join(folder, name) for name in files_beside if not is_wanted(name) and not is_text(name)]
    warn_of_others(folder, [*others, *(path for found in listed for path in found.others)])
    paths = as_strings([path for found in files for path in found])
    labels = as_strings(names).take(pa.array(np.repeat(np.arange(len(names)), [len(found) for found in files])))
    return Rows(
        folder,
        np.zeros(len(paths), np.int64),
        paths,
        labels,
        classes=ClassNames(tuple(names), str(folder)),
        are_names=True,
    )


def _check_level(folder: Path, names: Sequence[str], files: Sequence[list[str]]) -> None:
    """Refuse a folder whose class folders are one level deeper."""
    deep = [
        name for name, found in zip(names, files, strict=True) if found and all(path.count("/") > 1 for path in found)
    ]
    split = next((name for name in deep if name.lower() in SPLITS), None)
    if split is not None:
        raise AnnotationError(
            folder, 0, f"has {split!r}, which looks like a split with class folders; give {folder / split}, or only "
            "data.root if there is a folder 'train'"
        )  # fmt: skip
    if len(names) == 1 and deep and len({path.split("/")[1] for path in files[0]}) > 1:
        raise AnnotationError(
            folder, 0, f"has one folder, {names[0]!r}, whose videos are in folders below it; give {folder / names[0]} "
            "if these are the classes"
        )  # fmt: skip


def _relative(folder: Path, paths: Sequence[str]) -> list[str]:
    """Return paths relative to the folder of the classes."""
    found = [os.path.relpath(path, folder).replace(os.sep, "/") for path in paths]
    strange = next((path for path in found if not is_utf8(path)), None)
    if strange is not None:
        parent, _, file = strange.rpartition("/")
        shown = os.fsencode(file)
        raise AnnotationError(folder / parent, 0, f"has a video whose name is not UTF-8: {shown!r}; rename it")
    return found
