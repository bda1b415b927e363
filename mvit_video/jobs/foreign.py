"""Files that others wrote: what reading them can raise, and how much memory they may ask for."""

from __future__ import annotations

import csv
import io
import os
import stat
import struct
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from mvit_video.jobs.arrow import is_list, joined, lengths
from mvit_video.jobs.parquet_footer import ColumnClaim, read_claims
from mvit_video.types import AnnotationError

_ERRORS = (
    ValueError, ArithmeticError, LookupError, TypeError, RecursionError, EOFError, OSError,
    csv.Error, struct.error, tarfile.TarError, pa.ArrowException,
)  # fmt: skip
"""What the standard library and Arrow raise about files that are not what they should be."""

# what a file of few bytes may claim: files of real data sets stay far below
_FREE_ROWS, _ROWS_PER_BYTE = 1_000_000, 8
_FREE_BYTES, _BYTES_PER_BYTE = 2**26, 100


@contextmanager
def parsing(file: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in whatever parsing it raises.

    Raises:
        AnnotationError: in place of errors of the parsers; it names the file.
    """
    try:
        yield
    except _ERRORS as error:
        lines = str(getattr(error, "strerror", None) or error).splitlines() or [""]
        reason = _printable(lines[0][:200]) or type(error).__name__
        raise AnnotationError(file, 0, f"cannot be read ({reason})") from error


def require_file(path: str | os.PathLike[str]) -> None:
    """Refuse what is no plain file: reading a pipe or a device may never end.

    Raises:
        AnnotationError: it is there, but is no file.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # opening it says why
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise AnnotationError(path, 0, f"is {kind}, not a file; write it to a file first")


def read_parquet_table(
    file: str | os.PathLike[str],
    data: bytes | None = None,
    wanted: Sequence[str] | None = None,
    free_items: int = _FREE_ROWS,
) -> tuple[pa.Table, dict[str, str]]:
    """Return columns of a Parquet file, and what its metadata hold as text.

    Args:
        data: the file's bytes; None reads the file.
        wanted: names of columns, of which those that are there are read; None reads all.
        free_items: numbers in the lists of a column that a file of any size may claim: equal ones take no space in it.

    Raises:
        AnnotationError: it is damaged, its text is no UTF-8, or it claims more than a file of its size may.
    """
    with _opened(file, data, wanted, free_items) as (opened, names, size):
        schema = opened.schema_arrow
        table = opened.read(columns=names, use_threads=False)
    columns: dict[str, pa.Array] = {}
    for name in names:
        _check_text(file, name, table.column(name), _FREE_BYTES + _BYTES_PER_BYTE * size)
        columns[name] = _decoded(table.column(name))
    return pa.table(columns), _texts(file, schema.metadata or {})


def read_parquet_column(
    file: str | os.PathLike[str], name: str, num_rows: int, free_items: int = _FREE_ROWS
) -> Iterator[pa.Array]:
    """Yield a column of numbers, or of lists of them, a few rows at a time; nothing where there is no such column.

    Args:
        num_rows: most rows at a time.
        free_items: as `read_parquet_table` takes it.

    Raises:
        AnnotationError: as `read_parquet_table` does.
    """
    with _opened(file, None, [name], free_items) as (opened, names, _):
        if names:
            for batch in opened.iter_batches(num_rows, columns=names, use_threads=False):
                yield batch.column(0)


def read_parquet_schema(file: str | os.PathLike[str]) -> pa.Schema:
    """Return the columns of a Parquet file, those of text as dictionaries.

    Raises:
        AnnotationError: it is damaged, or it claims more than a file of its size may.
    """
    with _opened(file, None, None) as (opened, _, _):
        return opened.schema_arrow


@contextmanager
def _opened(
    file: str | os.PathLike[str], data: bytes | None, wanted: Sequence[str] | None, free_items: int = _FREE_ROWS
) -> Iterator[tuple[parquet.ParquetFile, list[str], int]]:
    """Give an open Parquet file, the wanted columns that it has, and its size, once its claims are checked."""
    if data is None:
        require_file(file)
    try:
        with open(file, "rb") if data is None else io.BytesIO(data) as binary:
            size, claims = binary.seek(0, os.SEEK_END), read_claims(binary)
        source: Any = os.fspath(file) if data is None else pa.BufferReader(data)
        texts = sorted({".".join(claim.path) for claim in claims if claim.is_text})
        with parquet.ParquetFile(source, read_dictionary=texts) as opened:
            names = opened.schema_arrow.names
            names = names if wanted is None else [name for name in wanted if name in names]
            claims = [claim for claim in claims if claim.path[0] in names]
            _check_claims(file, size, opened.metadata.num_rows, claims, free_items)
            yield opened, names, size
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = _printable((str(error).splitlines() or [""])[0])
        raise AnnotationError(file, 0, f"is no Parquet file that can be read ({reason})") from None


def _check_claims(
    file: str | os.PathLike[str], size: int, num_rows: int, claims: Sequence[ColumnClaim], free_items: int
) -> None:
    """Refuse claims that a file of this size cannot hold."""
    max_rows, max_bytes = _FREE_ROWS + _ROWS_PER_BYTE * size, _FREE_BYTES + _BYTES_PER_BYTE * size
    num_values: dict[tuple[str, ...], int] = {}
    for claim in claims:
        num_values[claim.path] = num_values.get(claim.path, 0) + claim.num_values
    num_items = max((number for path, number in num_values.items() if len(path) > 1), default=0)
    num_rows = max([num_rows, *(number for path, number in num_values.items() if len(path) == 1)])
    num_bytes = sum(claim.num_bytes for claim in claims)
    if num_items > max(max_rows, free_items):
        num_rows, max_rows = num_items, max(max_rows, free_items)
    if num_rows > max_rows or num_bytes > max_bytes:
        raise AnnotationError(
            file, 0, f"claims {num_rows:,} values and {num_bytes:,} bytes in a file of {size:,} bytes, which may have "
            f"{max_rows:,} and {max_bytes:,}; write it again in fewer or smaller columns"
        )  # fmt: skip


def _check_text(file: str | os.PathLike[str], name: str, column: pa.ChunkedArray, limit: int) -> None:
    """Refuse text that is no UTF-8, or that takes too much memory when each row has its own."""
    for chunk in column.chunks:
        values = chunk
        while is_list(values.type):
            values = values.flatten()
        if not pa.types.is_dictionary(values.type):
            continue
        entries = values.dictionary
        try:
            entries.validate(full=True)
        except pa.ArrowInvalid:
            raw = entries.cast(pa.large_binary() if pa.types.is_large_string(entries.type) else pa.binary())
            bad = next(value for value in raw.to_pylist() if not _is_utf8(value))
            raise AnnotationError(file, 0, f"column {name} holds {bad[:80]!r}, which is no UTF-8") from None
        if pa.types.is_fixed_size_binary(entries.type) or not len(entries):
            continue
        limit -= int(lengths(entries)[values.indices.drop_null().to_numpy()].sum())
        if limit < 0:
            raise AnnotationError(file, 0, f"column {name} holds more text than a file of this size may")


def _decoded(column: pa.ChunkedArray) -> pa.Array:
    """Return a column with its dictionaries decoded."""
    array = joined(column)
    if is_list(array.type) and pa.types.is_dictionary(array.type.value_type):
        return array.cast(pa.large_list(pa.large_string()))
    return array


def _texts(file: str | os.PathLike[str], metadata: dict[bytes, bytes]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for key, value in metadata.items():
        if not _is_utf8(key) or not _is_utf8(value):
            raise AnnotationError(file, 0, f"its metadata hold {key[:80]!r}: {value[:80]!r}, which is no UTF-8")
        texts[key.decode()] = value.decode()
    return texts


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
