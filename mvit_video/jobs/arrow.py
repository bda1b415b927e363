"""Arrow's functions over columns, and a few of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

# pyarrow makes these functions when it is imported, so their names are unknown to a type checker
compute: Any = pyarrow.compute


def as_strings(values: Sequence[str | None]) -> pa.Array:
    """Strings that may exceed 2 GiB in all."""
    return pa.array(values, pa.large_string())


def joined(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, its dictionaries decoded and its strings free to exceed 2 GiB."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_string(column.type):
        column = column.cast(pa.large_string())
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds a list in each row."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def is_string(kind: pa.DataType) -> bool:
    """Whether a column of this type holds a string in each row."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_utf8(text: str) -> bool:
    """Whether a string can be written down; a file's name of other bytes comes with lone surrogates, as JSON may."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def lengths(values: pa.Array) -> NDArray[np.int64]:
    """Bytes of each string; 0 for a null."""
    return compute.binary_length(values).fill_null(0).to_numpy()


def strip(values: pa.Array) -> pa.Array:
    """Strings without the blanks around them."""
    return compute.utf8_trim_whitespace(values)


def matches(values: pa.Array, pattern: str) -> NDArray[np.bool_]:
    """Which strings a regular expression is found in; not the nulls."""
    return to_mask(compute.match_substring_regex(values, pattern))


def to_mask(values: pa.Array) -> NDArray[np.bool_]:
    """Truth values as NumPy has them; null is false."""
    return values.fill_null(False).to_numpy(zero_copy_only=False)


def first(mask: NDArray[np.bool_]) -> int | None:
    """Index of the first true value."""
    return int(mask.argmax()) if mask.any() else None


def split_last(values: pa.Array, mark: str) -> tuple[pa.Array, pa.Array]:
    """What stands before and after the last `mark` of strings that all hold it, without blanks around."""
    parts = compute.split_pattern(values, mark, max_splits=1, reverse=True).flatten()
    return strip(parts.take(pa.array(np.arange(0, len(parts), 2)))), strip(
        parts.take(pa.array(np.arange(1, len(parts), 2)))
    )


def in_order(parts: Sequence[tuple[NDArray[np.int64], pa.Array]]) -> pa.Array:
    """Parts of a column, each with the places of its values, as one column."""
    parts = [part for part in parts if len(part[0])]
    if len(parts) == 1:
        return parts[0][1]
    places = np.concatenate([places for places, _ in parts])
    return pa.concat_arrays([values for _, values in parts]).take(pa.array(np.argsort(places)))
