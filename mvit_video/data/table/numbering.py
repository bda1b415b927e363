"""Class numbers from the cells of labels."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.table.classes import ClassNames, sorted_names
from mvit_video.data.table.labels import CLASS_NUMBER, LabelError, label_number, read_labels
from mvit_video.jobs.arrow import as_strings, compute, first, is_list, is_string, lengths, matches, to_mask
from mvit_video.types import AnnotationError

_NUMBER = rf"^{CLASS_NUMBER}$"
_MAX_DIGITS = 18


class Labels(NamedTuple):
    """Label columns of a table.

    Attributes:
        numbers: int64 class of each video; -1 is unknown, and everywhere if there are `lists`.
        lists: classes of each video, if it may have several.
        names: class names, if known.
    """

    numbers: NDArray[np.int64]
    lists: pa.ListArray | None
    names: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class WrittenLabels:
    """Labels as annotations write them, before classes are numbered.

    Attributes:
        cells: strings, numbers, or lists of either; null is unknown.
        own: names that come with the labels.
        are_names: whether labels that look like numbers are names.
        are_lists: whether each cell is a list of labels, perhaps empty.
    """

    cells: pa.Array
    own: ClassNames | None = None
    are_names: bool = False
    are_lists: bool = False

    def take(self, rows: pa.Array, *, are_lists: bool) -> WrittenLabels:
        """Return the labels of some rows; `are_lists` if the complete column has lists."""
        return replace(self, cells=self.cells.take(rows), are_lists=self.are_lists or are_lists)

    def number(self, known: ClassNames | None, error: LabelError) -> Labels:
        """Return the class of each row.

        Args:
            known: names given by the user or a file beside the annotations; None takes `own`, or the sorted names.
            error: makes the error for a row.

        Raises:
            AnnotationError: a cell is missing, ambiguous, or not a class.
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
            raise error(unknown, "has no labels, but other videos have lists; write an empty list for none")
        of_rows = _of_rows(cells, error)
        numbers, names = self._number(cells.flatten(), known, of_rows)
        unknown = first(numbers < 0)
        if unknown is not None:
            raise of_rows(unknown, "label -1 (unknown) cannot be in a list of labels; remove it")
        offsets = np.concatenate([[0], np.cumsum(compute.list_value_length(cells).to_numpy())]).astype(np.int32)
        lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers))
        return Labels(np.full(len(cells), -1, np.int64), lists, names)

    def if_ambiguous(self) -> WrittenLabels | None:
        """Return the labels if their meaning depends on the class names, else None.

        Text such as `run;jump` or `10` may be a class name, several labels, or a number.
        """
        if self.are_names or not is_string(_innermost(self.cells.type)):
            return None
        return self if is_list(self.cells.type) else replace(self, cells=self.cells.dictionary_encode())

    def _number(
        self, labels: pa.Array, known: ClassNames | None, error: LabelError
    ) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
        own = self.own
        if known is None or own is None or is_string(labels.type):
            return _number_labels(labels, known or own, error, are_names=self.are_names, are_own=known is None)
        # these numbers refer to the names of the file
        numbers, _ = _number_labels(labels, own, error, are_own=True)
        named = as_strings(own.names).take(pa.array(numbers, mask=numbers < 0))
        return _number_labels(named, known, error, are_names=True)


def _of_rows(cells: pa.Array, error: LabelError) -> LabelError:
    """Return the function that makes the error for the row of an item in a column of lists."""
    if not is_list(cells.type):
        return error
    parents = compute.list_parent_indices(cells).to_numpy()

    def of_row(i: int, reason: str) -> AnnotationError:
        return error(int(parents[i]), reason)

    return of_row


def _innermost(kind: pa.DataType) -> pa.DataType:
    return _innermost(kind.value_type) if is_list(kind) else kind


def _number_labels(
    labels: pa.Array,
    known: ClassNames | None,
    error: LabelError,
    *,
    are_names: bool = False,
    are_own: bool = False,
) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Return the class of each label, -1 for null, and the class names if labels are names.

    Names are numbered as in `known`, or in sorted order.

    Args:
        labels: strings or integers.
        are_names: whether labels that look like numbers are names.
        are_own: whether `known` comes with the labels, so that numbers refer to it.
    """
    if labels.null_count == len(labels):
        return np.full(len(labels), -1, np.int64), known.names if known is not None else None
    if is_string(labels.type):
        is_null = to_mask(labels.is_null())
        is_number = matches(labels, _NUMBER)
        if are_names or not (is_number | is_null).all():
            if not are_names:
                _refuse_mixtures(labels, is_number, is_null, error)
            return _number_names(labels, known, error)
    try:
        numbers = labels.cast(pa.int64())
    except pa.ArrowInvalid:
        numbers = None
    values = np.full(len(labels), 2**31) if numbers is None else numbers.fill_null(-1).to_numpy()
    bad = first((values < -1) | (values >= 2**31))
    if bad is not None and numbers is None:  # too long for an integer of 64 bits
        bad = next(i for i in range(len(labels)) if not _is_in_range(labels[i].as_py()))
    if bad is not None:
        shown = str(labels[bad].as_py())
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        raise error(bad, f"label {shown} is out of range; classes start at 0, -1 is unknown")
    if known is None:
        return values.astype(np.int64), None
    nameless = first(values >= len(known.names))
    if nameless is not None:
        raise error(nameless, f"label {values[nameless]} has no name; {known.origin} has {len(known.names)} classes")
    if not are_own:
        _refuse_confusion(values, known, error)
    return values.astype(np.int64), known.names


def _refuse_confusion(numbers: NDArray[np.int64], known: ClassNames, error: LabelError) -> None:
    """Refuse numbers that are also names of other classes, as in sorted folders `0`, `1`, `10`, `2`."""
    named = {label_number(name): i for i, name in enumerate(known.names)}
    elsewhere = {number: i for number, i in named.items() if number is not None and number != i}
    odd = first(np.isin(numbers, list(elsewhere)))
    if odd is not None:
        number = int(numbers[odd])
        other = elsewhere[number]
        raise error(
            odd, f"label {number} may be class {number} ({known.names[number]!r}) or the name of class {other} "
            f"({known.names[other]!r}) in {known.origin}; rename the classes, or give class_names in numeric order"
        )  # fmt: skip


def _is_in_range(label: str | int | None) -> bool:
    text = "-1" if label is None else str(label)
    return len(text) <= _MAX_DIGITS and -1 <= int(text) < 2**31


def _number_names(
    labels: pa.Array, known: ClassNames | None, error: LabelError
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    empty = first((lengths(labels) == 0) & to_mask(labels.is_valid()))
    if empty is not None:
        raise error(empty, "has an empty label; write the class, or null if it is unknown")
    names = known.names if known is not None else sorted_names(labels)
    numbers = compute.index_in(labels, value_set=as_strings(names))
    if known is not None:
        strange = first(to_mask(numbers.is_null()) & to_mask(labels.is_valid()))
        if strange is not None:
            label = labels[strange].as_py()
            nearest = difflib.get_close_matches(label, names, n=1, cutoff=0.0)[0]
            raise error(
                strange,
                f"label {label!r} is not one of the {len(names)} classes of {known.origin}; nearest is {nearest!r}",
            )
    return numbers.fill_null(-1).to_numpy().astype(np.int64), names


def _refuse_mixtures(
    labels: pa.Array,
    is_number: NDArray[np.bool_],
    is_null: NDArray[np.bool_],
    error: LabelError,
) -> None:
    start = first(~is_null)
    odd = first((is_number != is_number[start]) & ~is_null)
    if odd is not None:
        label = labels[start].as_py()
        raise error(odd, f"label {labels[odd].as_py()!r} mixes class names and class numbers; the first is {label!r}")
