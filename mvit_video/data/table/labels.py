"""Labels as annotation files write them: cells, and the spans of a label in a video."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.jobs.arrow import compute, first, is_list, is_string, is_utf8, matches, to_mask
from mvit_video.types import AnnotationError

LabelError = Callable[[int, str], AnnotationError]
"""Function that makes the error for a label, from its index and the reason."""

CLASS_NUMBER = r"-?[0-9]+"
NUMBER = rf"{CLASS_NUMBER}(?:\.0*)?"
"""Regular expression of a class number; floats such as `2.0` are allowed."""

_ANY_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_NUMBERS = re.compile(rf"{NUMBER}(\s*,\s*{NUMBER})+")
_SEPARATED_NUMBERS = re.compile(rf"{NUMBER}(\s+{NUMBER})+")
_ITEM = re.compile(r"""\s*(?:'([^'\\]*)'|"([^"\\]*)"|([^\s,'"()\[\]{}][^,'"()\[\]{}]*))\s*(?:,|$)""")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
# missing values as pandas, NumPy and Python write them
_MISSING = frozenset({"nan", "-nan", "na", "<na>", "n/a", "#n/a", "#na", "nat", "null", "none", "inf", "-inf"})
_MANY = "write several labels as run;jump, or list a class of that name in classes.txt or class_names"


def read_labels(
    cells: pa.Array, error: LabelError, names: Collection[str] = (), *, are_lists: bool = False
) -> pa.Array:
    """Return class numbers or names from a column of cells, or lists of them if a cell has several; null is unknown.

    Numbers may be floats such as `2.0`. Several labels are a list (`[0, 2]`), are separated by semicolons, or are
    numbers separated by commas.

    Args:
        cells: strings, integers, floats, or lists of these.
        names: class names, which are never parsed further.
        are_lists: return a list for every cell, empty for an empty cell.

    Raises:
        AnnotationError: a cell is missing, ambiguous, or not a label.
    """
    if is_list(cells.type):
        items = read_labels(cells.flatten(), error, names) if not is_list(cells.type.value_type) else None
        if items is None or is_list(items.type):
            raise error(0, "has a list inside a list of labels; write one list")
        lengths = compute.list_value_length(cells).fill_null(0).to_numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
        return pa.LargeListArray.from_arrays(offsets, items, mask=cells.is_null())
    if pa.types.is_floating(cells.type):
        return _whole_numbers(cells, error)
    if not is_string(cells.type):
        return cells
    if not are_lists and (matches(cells, rf"^{CLASS_NUMBER}$") | to_mask(cells.is_null())).all():
        return cells
    encoded = cells.dictionary_encode()  # few distinct cells
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
    """Return the label of a text cell, or its list of labels."""
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
    """Return one label; a class number without a fraction."""
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
    """Return a label of JSON as the text of a cell; None if it is neither a name nor a number."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and is_utf8(value) else None


def label_number(name: str) -> int | None:
    """Return a label as a class number; None if it is a name."""
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


LABEL_SPANS = "label_spans"
LABEL_SPANS_TYPE = pa.large_list(pa.large_list(pa.float64()))
"""Type of the spans of each label of a video: start, end, start, end ... in seconds."""


def group_labels(
    videos: NDArray[np.int64], labels: NDArray[np.int64], spans: NDArray[np.float64], num_videos: int
) -> tuple[pa.Array, pa.Array]:
    """Return the distinct labels of each video and the spans of each label.

    Args:
        videos: `(occurrences,)` video of each occurrence of a label.
        labels: `(occurrences,)`.
        spans: `(occurrences, 2)` seconds.
    """
    pairs, place = np.unique(np.stack([videos, labels]), axis=1, return_inverse=True)
    order = np.argsort(place.reshape(-1), kind="stable")
    times = _offsets(2 * np.bincount(place.reshape(-1), minlength=pairs.shape[1]))
    per_label = pa.LargeListArray.from_arrays(times, pa.array(spans[order].reshape(-1)))
    per_video = _offsets(np.bincount(pairs[0], minlength=num_videos))
    return (
        pa.LargeListArray.from_arrays(per_video, pa.array(pairs[1])),
        pa.LargeListArray.from_arrays(per_video, per_label),
    )


def check_label_spans(spans: pa.Array, labels: pa.ListArray | None, error: LabelError) -> pa.Array | None:
    """Return the spans of labels as a column of a table; None if there are none.

    Args:
        spans: column of a file.
        labels: labels of each video; None in a table with one label per video.
        error: makes the error for a row.
    """
    if spans.null_count == len(spans):
        return None
    if labels is None:
        row = int(spans.is_valid().index(True).as_py())
        raise error(row, f"has {LABEL_SPANS} but a single label; write a list `labels`")
    try:
        spans = spans.cast(LABEL_SPANS_TYPE)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise error(0, f"{LABEL_SPANS} is {spans.type}, not a list of seconds for each label") from None
    counts = compute.fill_null(compute.list_value_length(spans), -1)
    bad = first(~to_mask(compute.equal(counts, compute.list_value_length(labels))))
    if bad is not None:
        found = spans[bad].as_py()
        raise error(bad, f"has labels {labels[bad].as_py()!r} but {LABEL_SPANS} {found!r}; give each label its spans")
    inner = spans.flatten()
    rows = compute.list_parent_indices(spans).to_numpy()
    lengths = compute.fill_null(compute.list_value_length(inner), 1).to_numpy()
    bad = first((lengths % 2 != 0) | (lengths == 0))
    if bad is None:
        times = inner.flatten().to_numpy(zero_copy_only=False).reshape(-1, 2)
        of_label = np.repeat(np.arange(len(inner)), lengths // 2)
        wrong = first(~((times[:, 0] >= 0) & (times[:, 0] <= times[:, 1])))
        bad = None if wrong is None else int(of_label[wrong])
    if bad is not None:
        raise error(int(rows[bad]), f"{LABEL_SPANS} {inner[bad].as_py()!r} must be starts and ends in seconds")
    return spans


def is_label_spans(value: Any) -> bool:
    """Return whether a value of JSON is a list of lists of numbers."""
    return isinstance(value, list) and all(
        isinstance(times, list)
        and all(isinstance(time, (int, float)) and not isinstance(time, bool) and abs(time) < 2**53 for time in times)
        for times in value
    )


def _offsets(counts: NDArray[np.int64]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(counts)]))
