"""CSV and TSV files."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from mvit_video.data.annotations.lines import Lines
from mvit_video.data.table.files import SUFFIX_PATTERN
from mvit_video.data.table.rows import Rows
from mvit_video.jobs.arrow import as_strings, compute, first, joined, lengths, matches, strip

# the csv module ignores blanks before a quote, Arrow reads the quote as a letter
_QUOTE_AFTER_BLANK = re.compile(rb'(^|[,\t])[ \t]+"', re.MULTILINE)
_VIDEO_AND_BLANK = re.compile(rf"""{SUFFIX_PATTERN}["']?[ \t]+[^,]*""")


class Columns(NamedTuple):
    """Columns of strings by name in lower case, and the line of each row."""

    lines: Lines
    values: dict[str, pa.Array]


class Header(NamedTuple):
    """Names of the columns, the separator, and the lines below."""

    names: list[str]
    mark: str
    body: Lines


def read_header(lines: Lines, known: Sequence[set[str]]) -> Header | None:
    """Return the header if the first line names all columns of a known set."""
    for mark in ",\t":
        names = _column_names(lines, mark) if len(lines) else []
        if any(columns <= set(names) for columns in known):
            return Header(names, mark, lines.below(1))
    return None


def guess_header(lines: Lines) -> Header | None:
    """Return the header of a CSV file, written or implied; None if its first line is separated by blanks."""
    head = lines.line(0)
    if "," not in head or _VIDEO_AND_BLANK.search(head):
        return None
    names, needed = _column_names(lines, ","), ("path", "label")
    # paths have a suffix, a folder or a digit, names of columns do not
    if not set(needed) & set(names) and re.search(r"[./\\\d]", head):
        return Header(list(needed), ",", lines)
    missing = [name for name in needed if name not in names]
    raise lines.error(0, f"the header {head!r} has no column {missing[0]!r}; it needs the columns path and label")


def read_columns(header: Header, wanted: set[str]) -> Columns:
    """Return some columns of a file, without blanks around values."""
    body = header.body
    if not len(body):
        return Columns(body, {name: body.text for name in header.names if name in wanted})
    places = {name: place for place, name in enumerate(header.names) if name in wanted}
    return Columns(body, _read_quickly(header, places) or _read_carefully(header, places))


def read_table_columns(columns: Columns) -> Rows:
    """Return the rows of a file with the columns `path`, `label` or `labels`, and perhaps `start` and `end`."""
    lines, values = columns
    for name in ("path", "label"):
        empty = first(lengths(values.get(name, lines.text)) == 0)
        if empty is not None:
            raise lines.error(empty, f"has no {name}, got {lines.line(empty)!r}")
    spans = None
    if values.keys() & {"start", "end"}:
        spans = np.stack([read_seconds(columns, name) for name in ("start", "end")], axis=1)
    unknown = pa.nulls(len(lines), pa.large_string())
    labels = values.get("labels", values.get("label", unknown))
    return Rows(lines.file, lines.numbers, values["path"], labels, spans, are_lists="labels" in values)


def split_labels(values: pa.Array) -> pa.Array:
    """Return lists of labels from strings separated by semicolons."""
    parts = compute.split_pattern(values, ";")
    stripped = strip(parts.flatten())
    full = lengths(stripped) > 0
    counts = np.bincount(compute.list_parent_indices(parts).to_numpy()[full], minlength=len(values))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), stripped.filter(pa.array(full)))


def read_seconds(columns: Columns, name: str) -> NDArray[np.float64]:
    """Return a column in seconds; NaN where it is empty or missing."""
    if name not in columns.values:
        return np.full(len(columns.lines), np.nan)
    values = columns.values[name]
    is_empty = lengths(values) == 0
    bad = first(~is_empty & ~matches(values, r"^-?[0-9]*\.?[0-9]+(e-?[0-9]+)?$|^[0-9]+\.$"))
    if bad is not None:
        raise columns.lines.error(bad, f"{name} {values[bad].as_py()!r} is not a number of seconds")
    known = compute.if_else(pa.array(is_empty), pa.scalar(None, values.type), values)
    return known.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _column_names(lines: Lines, mark: str) -> list[str]:
    return [field.lower() for field in _fields(lines, 0, mark)]


def _fields(lines: Lines, i: int, mark: str) -> list[str]:
    try:
        fields = next(csv.reader([lines.line(i)], delimiter=mark, skipinitialspace=True))
    except csv.Error as error:
        raise lines.error(i, f"is not CSV ({error}), got {lines.line(i)[:80]!r}") from None
    return [field.strip() for field in fields]


def _read_quickly(header: Header, places: dict[str, int]) -> dict[str, pa.Array] | None:
    """Read columns with Arrow; None if it would read other rows than the csv module."""
    body = header.body
    data = pa.py_buffer(body.data)[int(body.starts[0]) :]
    if any(blank in body.data for blank in (b' "', b'\t"')) and _QUOTE_AFTER_BLANK.search(body.data):
        return None
    names = [str(place) for place in range(len(header.names))]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(column_names=names, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(delimiter=header.mark),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()),
                include_columns=[str(place) for place in places.values()],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    if len(table) != len(body):
        return None
    return {name: strip(joined(table.column(str(place)))) for name, place in places.items()}


def _read_carefully(header: Header, places: dict[str, int]) -> dict[str, pa.Array]:
    """Read columns line by line with the csv module."""
    lines, columns = header.body, {name: [] for name in places}
    for i in range(len(lines)):
        fields = _fields(lines, i, header.mark)
        if len(fields) != len(header.names):
            expected = header.mark.join(header.names)
            raise lines.error(i, f"expected `{expected}`, got {lines.line(i)!r}; put quotes around a path with a comma")
        for name, place in places.items():
            columns[name].append(fields[place])
    return {name: as_strings(values) for name, values in columns.items()}
