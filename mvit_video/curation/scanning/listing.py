"""Which videos a scan looks at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mvit_video.data import VideoTable, load_annotations
from mvit_video.data.table.files import VIDEO_SUFFIXES, is_video, unlistable, videos_below
from mvit_video.types import AnnotationError


def list_videos(data: str, root: str | None = None, class_names: Sequence[str] | None = None) -> tuple[VideoTable, str]:
    """The videos of annotations or a folder, and why they have no labels where they have none.

    Args:
        data: annotations, or a folder.
        root: folder that relative paths start from; None is that of the annotations.
        class_names: name of each class; None takes those that the annotations tell.

    Raises:
        AnnotationError: there is nothing to read, or no video in it, or a folder cannot be listed.
    """
    folder = Path(data)
    if not folder.is_dir() or any(folder.glob("*.tar")):
        return load_annotations(data, root, class_names=class_names), ""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise unlistable(error) from None
    if any(is_video(name) and not name.startswith(".") for name in names):
        return walk(folder), "the folder holds videos, not one folder per class"
    try:
        return load_annotations(data, root, class_names=class_names), ""
    except AnnotationError as error:
        return walk(folder), error.reason


def walk(folder: Path) -> VideoTable:
    """Every video below a folder, without a class.

    Raises:
        AnnotationError: there is none, or a folder cannot be listed.
    """
    paths = [os.path.relpath(path, folder) for path in videos_below(folder)]
    if not paths:
        raise AnnotationError(folder, 0, f"holds no videos ({' '.join(sorted(VIDEO_SUFFIXES))})")
    # a name that is no UTF-8 fits no column; written out, it is at least told of as missing
    readable = [os.fsencode(path).decode("utf-8", "backslashreplace") for path in paths]
    return VideoTable(pa.array(readable), np.full(len(paths), -1, dtype=np.int64), None, folder)
