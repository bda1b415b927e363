"""A folder of a user's own as a data set: which of its videos train and which validate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mvit_video.data.annotations import VideoTable

Split = Literal["train", "val", "test", "predict"]

_ONE_IN = 5
_NAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("valid", "validation", "val"),
    "test": ("test",),
}


def split_folders(root: str) -> dict[Split, str]:
    """Folders of the splits under a root; without `val` training and validation divide the videos of one."""
    found = {
        split: str(Path(root) / name)
        for split, names in _NAMES.items()
        for name in names
        if _holds_folders(Path(root) / name)
    }
    train = found.get("train", root)
    val = found.get("val", train) if "train" in found else root
    return {"train": train, "val": val, "test": found.get("test", val) if "train" in found else root}


def _holds_folders(folder: Path) -> bool:
    """Whether it is a split, not a class of that name."""
    return folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir())


def hold_out(table: VideoTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that train and rows that are held out: of each class a fifth, rounded up, but never its only video.

    Which ones hangs on the names alone, so that it stays the same when a run goes on or is tested, and changes little
    when videos are added.
    """
    held = np.zeros(len(table), dtype=np.bool_)
    order = np.array([crc32(path.encode()) for path in table.paths.to_pylist()])
    for label in np.unique(table.labels):
        rows = np.flatnonzero(table.labels == label)
        if len(rows) > 1:
            held[rows[np.argsort(order[rows], kind="stable")[: -(-len(rows) // _ONE_IN)]]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
