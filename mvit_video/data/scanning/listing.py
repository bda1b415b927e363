"""Which videos a scan looks at."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from mvit_video.data.annotations import VIDEO_SUFFIXES, VideoTable, load_annotations
from mvit_video.data.annotations.files import is_video
from mvit_video.types import AnnotationError


def list_videos(data: str, root: str | None = None) -> tuple[VideoTable, str]:
    """The videos of annotations or a folder, and why they have no labels where they have none.

    Raises:
        AnnotationError: there is nothing to read, or no video in it.
    """
    folder = Path(data)
    if not folder.is_dir() or any(folder.glob("*.tar")):
        return load_annotations(data, root), ""
    if any(_is_shown_video(entry.name) for entry in folder.iterdir()):
        return walk(folder), "the folder holds videos, not one folder per class"
    try:
        return load_annotations(data, root), ""
    except AnnotationError as error:
        return walk(folder), error.reason


def walk(folder: Path) -> VideoTable:
    """Every video below a folder, without a class.

    Raises:
        AnnotationError: there is none.
    """
    paths: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [
            os.path.relpath(os.path.join(parent, name), folder) for name in sorted(files) if _is_shown_video(name)
        ]
    if not paths:
        raise AnnotationError(folder, 0, f"holds no videos ({' '.join(sorted(VIDEO_SUFFIXES))})")
    # a name that is no UTF-8 fits no column; written out, it is at least told of as missing
    readable = [os.fsencode(path).decode("utf-8", "backslashreplace") for path in paths]
    return VideoTable(pa.array(readable), np.full(len(paths), -1, dtype=np.int64), None, folder)


def _is_shown_video(name: str) -> bool:
    return is_video(name) and not name.startswith(".")
