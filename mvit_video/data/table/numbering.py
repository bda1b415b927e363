"""From the cells of labels to class numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.table.classes import ClassNames, number_labels
from mvit_video.data.table.labels import LabelError, read_labels
from mvit_video.jobs.arrow import as_strings, compute, first, is_list, is_string, to_mask
from mvit_video.types import AnnotationError


class Labels(NamedTuple):
    """Columns of a table.

    Attributes:
        numbers: int64 class of each video, -1 where unknown, and everywhere beside `lists`.
        lists: the classes of each video, where it may have several.
        names: of the classes, where there are any.
    """

    numbers: NDArray[np.int64]
    lists: pa.ListArray | None
    names: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class WrittenLabels:
    """Labels as annotations write them, before their classes have numbers.

    Attributes:
        cells: strings, numbers, or lists of either; null where unknown.
        own: names that came with the labels.
        are_names: whether labels are class names even where they look like numbers.
        are_lists: whether each cell holds a list of labels, perhaps of none.
    """

    cells: pa.Array
    own: ClassNames | None = None
    are_names: bool = False
    are_lists: bool = False

    def take(self, rows: pa.Array, *, are_lists: bool) -> WrittenLabels:
        """Return the labels of some of the rows.

        Args:
            are_lists: whether cells of the others hold lists, so that those of these rows are lists too.
        """
        return replace(self, cells=self.cells.take(rows), are_lists=self.are_lists or are_lists)

    def number(self, known: ClassNames | None, error: LabelError) -> Labels:
        """Return the class of each row.

        Args:
            known: names that the user gave, or that lie beside the annotations; None takes `own`, or the sorted names.
            error: makes the error about a row.

        Raises:
            AnnotationError: a cell is missing, ambiguous, or has no number.
        """
        cells = self.cells
        if pa.types.is_dictionary(cells.type):
            cells = cells.cast(cells.type.value_type)
        if not self.are_names:
            names = known or self.own
            texts = () if names is None else frozenset(names.names)
            cells = read_labels(cells, _of_rows(cells, error), texts, are_lists=self.are_lists)
        if not is_list(cells.type):
            numbers, names = self._number(cells, known, error)
            return Labels(numbers, None, names)
        unknown = first(to_mask(cells.is_null()))
        if unknown is not None:
            raise error(unknown, "has no labels although others have several; write an empty list for none")
        of_rows = _of_rows(cells, error)
        numbers, names = self._number(cells.flatten(), known, of_rows)
        unknown = first(numbers < 0)
        if unknown is not None:
            raise of_rows(unknown, "label -1 is unknown, which cannot stand in a list of labels; leave it out")
        offsets = np.concatenate([[0], np.cumsum(compute.list_value_length(cells).to_numpy())]).astype(np.int32)
        lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers))
        return Labels(np.full(len(cells), -1, np.int64), lists, names)

    def if_ambiguous(self) -> WrittenLabels | None:
        """Return the labels where other names may read them otherwise; None where classes and numbers say the same.

        Text such as `run;jump` or `10` is a class of that name, or several labels, or a number.
        """
        if self.are_names or not is_string(_innermost(self.cells.type)):
            return None
        return self if is_list(self.cells.type) else replace(self, cells=self.cells.dictionary_encode())

    def _number(
        self, labels: pa.Array, known: ClassNames | None, error: LabelError
    ) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
        own = self.own
        if known is None or own is None or is_string(labels.type):
            return number_labels(labels, known or own, error, are_names=self.are_names, are_own=known is None)
        # these numbers are those of the file
        numbers, _ = number_labels(labels, own, error, are_own=True)
        named = as_strings(own.names).take(pa.array(numbers, mask=numbers < 0))
        return number_labels(named, known, error, are_names=True)


def _of_rows(cells: pa.Array, error: LabelError) -> LabelError:
    """Makes the error about an item of a column of lists that about its row."""
    if not is_list(cells.type):
        return error
    parents = compute.list_parent_indices(cells).to_numpy()

    def of_row(i: int, reason: str) -> AnnotationError:
        return error(int(parents[i]), reason)

    return of_row


def _innermost(kind: pa.DataType) -> pa.DataType:
    return _innermost(kind.value_type) if is_list(kind) else kind
