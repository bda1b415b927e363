"""Functions of Arrow columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

# pyarrow creates these functions at import, so a type checker does not know them
compute: Any = pyarrow.compute


def as_strings(values: Sequence[str | None]) -> pa.Array:
    """Return an array of strings that may exceed 2 GiB in total."""
    return pa.array(values, pa.large_string())


def joined(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, without dictionaries; strings may exceed 2 GiB in total."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_string(column.type):
        column = column.cast(pa.large_string())
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def is_list(kind: pa.DataType) -> bool:
    """Return whether rows of this type are lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def is_string(kind: pa.DataType) -> bool:
    """Return whether rows of this type are strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_utf8(text: str) -> bool:
    """Return whether a string can be encoded; names of files and JSON may have lone surrogates."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def lengths(values: pa.Array) -> NDArray[np.int64]:
    """Return the bytes of each string; 0 for null."""
    return compute.binary_length(values).fill_null(0).to_numpy()


def strip(values: pa.Array) -> pa.Array:
    """Strip the blanks around strings."""
    return compute.utf8_trim_whitespace(values)


def matches(values: pa.Array, pattern: str) -> NDArray[np.bool_]:
    """Return which strings match a regular expression; null does not."""
    return to_mask(compute.match_substring_regex(values, pattern))


def to_mask(values: pa.Array) -> NDArray[np.bool_]:
    """Convert booleans to NumPy; null is false."""
    return values.fill_null(False).to_numpy(zero_copy_only=False)


def first(mask: NDArray[np.bool_]) -> int | None:
    """Return the index of the first true value, or None."""
    return int(mask.argmax()) if mask.any() else None


def split_last(values: pa.Array, mark: str) -> tuple[pa.Array, pa.Array]:
    """Split strings at the last `mark`, which all have, and strip the parts."""
    parts = strip(compute.split_pattern(values, mark, max_splits=1, reverse=True).flatten())
    places = np.arange(0, len(parts), 2)
    return parts.take(pa.array(places)), parts.take(pa.array(places + 1))


def in_order(parts: Sequence[tuple[NDArray[np.int64], pa.Array]]) -> pa.Array:
    """Join parts of a column, each with the places of its values."""
    parts = [part for part in parts if len(part[0])]
    if len(parts) == 1:
        return parts[0][1]
    places = np.concatenate([places for places, _ in parts])
    return pa.concat_arrays([values for _, values in parts]).take(pa.array(np.argsort(places)))
