"""A folder of a user's own as a data set: which of its videos train and which validate."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mvit_video.data.annotations import VideoTable

_ONE_IN = 5


def split_folders(root: str | Path) -> dict[Literal["train", "val", "test"], str | None] | None:
    """Folders of the splits under a root, None when it has no folder `train`."""
    root = Path(root)
    if not (root / "train").is_dir():
        return None
    val = next((str(root / name) for name in ("val", "validation", "valid") if (root / name).is_dir()), None)
    test = str(root / "test") if (root / "test").is_dir() else val
    return {"train": str(root / "train"), "val": val, "test": test}


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
