"""Whose names number the classes of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from mvit_video.data.splits import Split
from mvit_video.data.table.labels import label_number
from mvit_video.data.table.video_table import VideoTable
from mvit_video.types import ConfigError

Names = tuple[str, ...]


class Order(NamedTuple):
    """Names of classes in the order of their numbers, None where numbers are all there is, and who gave them."""

    names: Names | None
    origin: str


class ClassOrder:
    """The policy: names of a checkpoint lead, then those that the user gives, then those of what is trained on.

    Args:
        given: names that the user gives, or a file of them.
    """

    def __init__(self, given: Sequence[str] | str | None = None) -> None:
        self.given = given
        self._of_checkpoint: Order | None = None

    def follow(self, names: Names, origin: str, present: Names | None) -> Order:
        """Let a checkpoint lead from now on.

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
                f"data.classes.names has {ours!r} as class {i}, {origin} {theirs!r}: give the names of its training"
            )
        self._of_checkpoint = Order(names, "the checkpoint")
        return Order(names, origin)

    def lead(self, tables: Mapping[Split, VideoTable], read: Callable[[Split], Names | None]) -> Order:
        """Return the order for these tables: a checkpoint's, or that of the first split of training and validation.

        Args:
            read: gives the names of a split that is not among the tables; None where it has none, or is not there.
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
    """Return the table with the numbers of an order: a split that lacks a class would shift all behind it.

    Args:
        needs_labels: refuse classes that the order lacks, in place of dropping the labels.

    Raises:
        ConfigError: the table has a class that the order lacks.
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
        # where names are numbers, a label may be meant by either
        return table.with_classes(names) if any(label_number(name) is not None for name in names) else table
    if odd:
        raise ConfigError(f"data.{split} has the class {odd[0]!r}, which {order.origin} lacks; remove or rename it")
    return table.with_classes(names, order.origin)
