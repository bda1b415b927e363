"""What stands in the cell of a label, for every format of annotations."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import numpy as np
import pyarrow as pa

from mvit_video.jobs.arrow import compute, first, is_list, is_string, is_utf8, matches, to_mask
from mvit_video.types import AnnotationError

LabelError = Callable[[int, str], AnnotationError]
"""Makes the error about a label, from its index and the reason."""

CLASS_NUMBER = r"-?[0-9]+"
NUMBER = rf"{CLASS_NUMBER}(?:\.0*)?"
"""Regular expression of a class number, perhaps written as a float."""

_ANY_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_NUMBERS = re.compile(rf"{NUMBER}(\s*,\s*{NUMBER})+")
_SEPARATED_NUMBERS = re.compile(rf"{NUMBER}(\s+{NUMBER})+")
_ITEM = re.compile(r"""\s*(?:'([^'\\]*)'|"([^"\\]*)"|([^\s,'"()\[\]{}][^,'"()\[\]{}]*))\s*(?:,|$)""")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
# what pandas, NumPy and Python write for nothing
_MISSING = frozenset({"nan", "-nan", "na", "<na>", "n/a", "#n/a", "#na", "nat", "null", "none", "inf", "-inf"})
_MANY = "write several labels as run;jump, or list a class of that name in classes.txt or class_names"


def read_labels(
    cells: pa.Array, error: LabelError, names: Collection[str] = (), *, are_lists: bool = False
) -> pa.Array:
    """Return class numbers or names of a column of cells, or lists of them where a cell holds several; null is unknown.

    Numbers may be written as floats (`2.0`) and come back as integers or their text. A cell holds several labels as a
    list (`[0, 2]`), with semicolons between, or as numbers with commas between.

    Args:
        cells: strings, integers, floats, or lists of these.
        names: of classes, which mean themselves whatever they look like.
        are_lists: whether a cell with one label is a list of one, and an empty one a list of none.

    Raises:
        AnnotationError: a cell is missing, ambiguous, or holds no label.
    """
    if is_list(cells.type):
        items = read_labels(cells.flatten(), error, names) if not is_list(cells.type.value_type) else None
        if items is None or is_list(items.type):
            raise error(0, "has a list within a list of labels; write one list")
        lengths = compute.list_value_length(cells).fill_null(0).to_numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
        return pa.LargeListArray.from_arrays(offsets, items, mask=cells.is_null())
    if pa.types.is_floating(cells.type):
        return _whole_numbers(cells, error)
    if not is_string(cells.type):
        return cells
    if not are_lists and (matches(cells, rf"^{CLASS_NUMBER}$") | to_mask(cells.is_null())).all():
        return cells
    encoded = cells.dictionary_encode()  # few cells differ
    found: list[str | list[str]] = []
    for code, cell in enumerate(encoded.dictionary.to_pylist()):
        try:
            found.append([] if are_lists and not cell.strip() else parse_cell(cell, names))
        except ValueError as reason:
            row = first(to_mask(compute.equal(encoded.indices, code)))
            assert row is not None
            raise error(row, str(reason)) from None
    if are_lists or any(isinstance(labels, list) for labels in found):
        lists = [labels if isinstance(labels, list) else [labels] for labels in found]
        return pa.array(lists, pa.large_list(pa.large_string())).take(encoded.indices)
    return pa.array(found, pa.large_string()).take(encoded.indices)


def parse_cell(cell: str, names: Collection[str] = ()) -> str | list[str]:
    """The label of a cell of text, or its several labels; class numbers as integers."""
    text = cell.strip()
    if text in names:
        return text
    if text[:1] in _BRACKETS and text.endswith(_BRACKETS[text[0]]) and (text[0] == "[" or "," in text):
        return _parse_list(text, names)
    if ";" in text:
        return [parse_label(part, names) for part in text.split(";") if part.strip()]
    if _NUMBERS.fullmatch(text):
        return [parse_label(part, names) for part in text.split(",")]
    if "," in text or "|" in text or _SEPARATED_NUMBERS.fullmatch(text):
        raise ValueError(f"label {cell!r} may be one class or several: {_MANY}")
    return parse_label(text, names)


def parse_label(text: str, names: Collection[str] = ()) -> str:
    """One label; a class number as an integer."""
    label = text.strip()
    if label in names:
        return label
    if not label:
        raise ValueError("has an empty label; write the class, or -1 where it is unknown")
    if label.lower() in _MISSING:
        raise ValueError(f"label {label!r} is missing; write the class, or -1 where it is unknown")
    if not _ANY_NUMBER.fullmatch(label):
        return label
    if re.fullmatch(NUMBER, label):
        return label.partition(".")[0]
    value = float(label)
    if not value.is_integer():
        raise ValueError(_not_whole(label))
    return str(int(value))


def label_text(value: object) -> str | None:
    """A label of JSON as the text that a cell would hold; None where it is neither a name nor a number."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and is_utf8(value) else None


def label_number(name: str) -> int | None:
    """The class number that a label stands for; None where it is a name."""
    try:
        return int(parse_label(name))
    except ValueError:
        return None


def _not_whole(number: str) -> str:
    return f"a label must be a class name or a class number, got {number}; class numbers are whole"


def _parse_list(text: str, names: Collection[str]) -> list[str]:
    inner, position, labels = text[1:-1].strip(), 0, list[str]()
    if _SEPARATED_NUMBERS.fullmatch(inner):  # as NumPy prints an array
        inner = ",".join(inner.split())
    while position < len(inner):
        item = _ITEM.match(inner, position)
        if item is None:
            raise ValueError(f"label {text!r} may be a list or a class: {_MANY}")
        labels.append(parse_label(next(part for part in item.groups() if part is not None), names))
        position = item.end()
    return labels


def _whole_numbers(cells: pa.Array, error: LabelError) -> pa.Array:
    values = cells.cast(pa.float64()).fill_null(-1.0).to_numpy()
    bad = first(~(np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**53)))
    if bad is not None and np.isnan(values[bad]):
        raise error(bad, "label nan is missing; write the class, or -1 where it is unknown")
    if bad is not None:
        raise error(bad, _not_whole(f"{values[bad]:g}"))
    return pa.array(values.astype(np.int64), mask=cells.is_null().to_numpy(zero_copy_only=False))
