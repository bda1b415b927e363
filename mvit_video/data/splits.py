"""Splits of a data set: folders, held-out videos, kinds of labels, and the order of classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mvit_video.data.table.files import SPLITS, first_few, unlistable
from mvit_video.data.table.labels import label_number
from mvit_video.data.table.video_table import VideoTable
from mvit_video.types import ConfigError

Split = Literal["train", "val", "test", "predict"]

_ONE_IN = 5


def split_folders(root: str) -> dict[Split, str]:
    """Return the folders of the splits under a root; without `val`, training and validation share a folder.

    Raises:
        ConfigError: two folders are the same split.
        AnnotationError: a folder cannot be listed.
    """
    folders = _folders_in(Path(root)) if Path(root).is_dir() else []
    found: dict[str, str] = {}
    for folder in folders:
        split = SPLITS.get(folder.name.lower()) if _folders_in(folder) else None
        if split in found:
            raise ConfigError(
                f"data.root={root} has both {Path(found[split]).name!r} and {folder.name!r} for {split}; rename one, "
                "or set data.train and data.val"
            )
        if split is not None:
            found[split] = str(folder)
    if "train" not in found:
        return {"train": root, "val": root, "test": root}
    others = [folder.name for folder in folders if str(folder) not in found.values()]
    if others:
        warnings.warn(
            f"data.root={root}: ignoring folders that are not a split (train, val, test) with class folders: "
            f"{first_few(others)}",
            stacklevel=4,
        )
    val = found.get("val", found["train"])
    return {"train": found["train"], "val": val, "test": found.get("test", val)}


def _folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder; a split has some, a class named like a split has none."""
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise unlistable(error) from None


def hold_out(table: VideoTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to train on and the rows to hold out: a fifth of each class, rounded up, but not its only video.

    The split depends only on file names, so resuming and testing see the same one, and new videos change it little.
    """
    held = np.zeros(len(table), dtype=np.bool_)
    order = np.array([crc32(path.encode()) for path in table.paths.to_pylist()])
    for label in np.unique(table.labels):
        rows = np.flatnonzero(table.labels == label)
        if len(rows) > 1:
            held[rows[np.argsort(order[rows], kind="stable")[: -(-len(rows) // _ONE_IN)]]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def doubts(train: VideoTable, val: VideoTable | None, *, holds_out: bool) -> list[str]:
    """Return warnings about data whose scores say little; `holds_out` if `val` was held out of the training videos."""
    texts = []
    if not train.is_multilabel and len(train) and (train.labels == train.labels[0]).all():
        name = train.class_names[train.labels[0]] if train.class_names is not None else train.labels[0]
        texts.append(f"data.train has one class only, {name}: a model that learns nothing also scores 100")
    if holds_out and val is not None:
        num_single = len(np.unique(train.labels)) - len(np.unique(val.labels))
        if not len(val):
            texts.append(
                "data.val: every class has a single video, which is used for training, so this run has no validation: "
                "add videos, or set data.val"
            )
        elif num_single:
            texts.append(f"data.val: {num_single} classes have a single video, so they are missing in validation")
    return texts


def require_same_kind(tables: Mapping[Any, VideoTable]) -> None:
    """Refuse splits with class names in one and class numbers in another."""
    named = [split for split, table in tables.items() if table.class_names is not None]
    numbered = [split for split in tables if split not in named]
    if named and numbered:
        raise ConfigError(f"data.{named[0]} has class names but data.{numbered[0]} has class numbers; use one kind")


def with_lists(tables: Mapping[Any, VideoTable]) -> dict[Any, VideoTable]:
    """Return the tables of splits, all multi-label if one is: a single label is a list of one."""
    if not any(table.is_multilabel for table in tables.values()):
        return dict(tables)
    found: dict[Any, VideoTable] = {}
    for split, table in tables.items():
        keeps = table.is_multilabel or (split == "predict" and table.is_unlabelled)
        unknown = (table.labels < 0).nonzero()[0]
        if unknown.size and not keeps:
            raise ConfigError(
                f"data.{split}: {table.path(int(unknown[0]))} has label -1 (unknown), but other videos have lists of "
                "labels; write its labels, or [] for none"
            )
        found[split] = table if keeps else table.as_multilabel()
    return found


Names = tuple[str, ...]


class Order(NamedTuple):
    """Class names in the order of their numbers, None if there are only numbers, and their source for messages."""

    names: Names | None
    origin: str


class ClassOrder:
    """Policy for the order of classes: that of a checkpoint, else of the user, else of the training data.

    Args:
        given: names from the user, or a file of them.
    """

    def __init__(self, given: Sequence[str] | str | None = None) -> None:
        self.given = given
        self._of_checkpoint: Order | None = None

    def follow(self, names: Names, origin: str, present: Names | None) -> Order:
        """Follow the order of a checkpoint from now on.

        Args:
            origin: the checkpoint, for messages.
            present: names in use so far.

        Raises:
            ConfigError: the user gave other names.
        """
        if self.given is not None and present not in (None, names):
            pairs = enumerate(zip_longest(present or (), names, fillvalue="nothing"))
            i, (ours, theirs) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
            raise ConfigError(
                f"data.classes.names has {ours!r} as class {i}, {origin} has {theirs!r}: give the names of its training"
            )
        self._of_checkpoint = Order(names, "the checkpoint")
        return Order(names, origin)

    def lead(self, tables: Mapping[Split, VideoTable], read: Callable[[Split], Names | None]) -> Order:
        """Return the order for these tables: of the checkpoint, or of the first of training and validation.

        Args:
            read: returns the names of a split that is not among the tables, None if there are none.
        """
        if self._of_checkpoint is not None:
            return self._of_checkpoint
        for split in ("train", "val"):
            if split in tables:
                return Order(tables[split].class_names, f"data.{split}")
            has_names = "predict" in tables or any(table.class_names is not None for table in tables.values())
            if self.given is None and has_names and (names := read(split)) is not None:
                return Order(names, f"data.{split}")
        return Order(None, "")


def number_classes(order: Order, split: Split, table: VideoTable, *, needs_labels: bool) -> VideoTable:
    """Return the table with the class numbers of an order, so that all splits agree.

    Args:
        needs_labels: refuse unknown classes; otherwise drop the labels.

    Raises:
        ConfigError: a class of the table is not in the order.
    """
    names = order.names
    if names is None or table.class_names == names:
        return table
    if split == "predict" and table.is_unlabelled:
        return table.without_labels(names)
    odd = sorted(set(table.class_names or ()) - set(names))
    if not needs_labels and (odd or table.class_names is None):
        return table.without_labels(names)
    if table.class_names is None:
        # if names are numbers, a label may be a name or a number
        return table.with_classes(names) if any(label_number(name) is not None for name in names) else table
    if odd:
        raise ConfigError(f"data.{split} has the class {odd[0]!r}, which is not in {order.origin}; remove or rename it")
    return table.with_classes(names, order.origin)
