"""The splits of a data set: folders that are splits, videos held out for validation, and labels of one kind."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mvit_video.data.table.files import SPLITS, unlistable
from mvit_video.data.table.video_table import VideoTable
from mvit_video.types import ConfigError

Split = Literal["train", "val", "test", "predict"]

_ONE_IN = 5


def split_folders(root: str) -> dict[Split, str]:
    """Return the folders of the splits under a root; without `val`, training and validation divide the videos of one.

    Raises:
        ConfigError: two folders have names of one split.
        AnnotationError: a folder cannot be listed.
    """
    folders = _folders_in(Path(root)) if Path(root).is_dir() else []
    found: dict[str, str] = {}
    for folder in folders:
        split = SPLITS.get(folder.name.lower()) if _folders_in(folder) else None
        if split in found:
            raise ConfigError(
                f"data.root={root} holds both {Path(found[split]).name!r} and {folder.name!r} for {split}; rename one, "
                "or set data.train and data.val"
            )
        if split is not None:
            found[split] = str(folder)
    if "train" not in found:
        return {"train": root, "val": root, "test": root}
    others = [folder.name for folder in folders if str(folder) not in found.values()]
    if others:
        warnings.warn(
            f"data.root={root}: {len(others)} folders are left out, since they are not a split (train, val, test) with "
            f"class folders in it: {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}",
            stacklevel=4,
        )
    val = found.get("val", found["train"])
    return {"train": found["train"], "val": val, "test": found.get("test", val)}


def _folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder; a split has some, a class of that name has none."""
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise unlistable(error) from None


def hold_out(table: VideoTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that train and rows that are held out: of each class a fifth, rounded up, but never its only video.

    The split depends only on file names: resuming and testing see the same one, and it changes little when videos are
    added.
    """
    held = np.zeros(len(table), dtype=np.bool_)
    order = np.array([crc32(path.encode()) for path in table.paths.to_pylist()])
    for label in np.unique(table.labels):
        rows = np.flatnonzero(table.labels == label)
        if len(rows) > 1:
            held[rows[np.argsort(order[rows], kind="stable")[: -(-len(rows) // _ONE_IN)]]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def doubts(train: VideoTable, val: VideoTable | None, *, holds_out: bool) -> list[str]:
    """Warnings about data that train but whose scores say little.

    Args:
        holds_out: whether `val` was held out of the videos that `train` comes from.
    """
    texts = []
    if not train.is_multilabel and len(train) and (train.labels == train.labels[0]).all():
        name = train.class_names[train.labels[0]] if train.class_names is not None else train.labels[0]
        texts.append(f"data.train has one class only, {name}: a model that learns nothing scores 100 too")
    if holds_out and val is not None:
        num_single = len(np.unique(train.labels)) - len(np.unique(val.labels))
        if not len(val):
            texts.append(
                "data.val: every class has a single video, which trains, so no video is held out and this run has no "
                "validation: add videos, or set data.val"
            )
        elif num_single:
            texts.append(f"data.val: {num_single} classes have a single video, which trains: no validation sees them")
    return texts


def require_same_kind(tables: Mapping[Any, VideoTable]) -> None:
    """Refuse splits of a data set, by name, that give names of classes in one and numbers in another."""
    named = [split for split, table in tables.items() if table.class_names is not None]
    numbered = [split for split in tables if split not in named]
    if named and numbered:
        raise ConfigError(f"data.{named[0]} gives class names but data.{numbered[0]} gives class numbers; use one kind")


def with_lists(tables: Mapping[Any, VideoTable]) -> dict[Any, VideoTable]:
    """Return the tables of splits with lists of labels in all where one has some: one label is a list of one."""
    if not any(table.is_multilabel for table in tables.values()):
        return dict(tables)
    found: dict[Any, VideoTable] = {}
    for split, table in tables.items():
        keeps = table.is_multilabel or (split == "predict" and table.is_unlabelled)
        unknown = (table.labels < 0).nonzero()[0]
        if unknown.size and not keeps:
            raise ConfigError(
                f"data.{split}: {table.path(int(unknown[0]))} has label -1 (unknown), which cannot stand beside lists "
                "of labels; give its labels, or [] for none"
            )
        found[split] = table if keeps else table.as_multilabel()
    return found
