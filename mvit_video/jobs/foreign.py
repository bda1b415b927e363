"""Files from others: errors of parsers, and limits on the memory that a file may claim."""

from __future__ import annotations

import csv
import io
import os
import stat
import struct
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from mvit_video.jobs.arrow import is_list, joined, lengths
from mvit_video.types import AnnotationError

_MAGIC = b"PAR1"
_MAX_FOOTER_BYTES = 2**24
_BYTE_ARRAY = 6
# types of values in Thrift's compact protocol
_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, (9, 10), 12


class ColumnClaim(NamedTuple):
    """Claims of a Parquet footer about a column of a row group.

    Attributes:
        path: names of the column and of its nested field.
        is_text: whether values are strings or bytes.
    """

    path: tuple[str, ...]
    is_text: bool
    num_values: int
    num_bytes: int


def read_claims(file: BinaryIO) -> list[ColumnClaim]:
    """Return the claims of a Parquet footer about all columns; Arrow would crash the process on a damaged one.

    Raises:
        ValueError: the footer is missing or damaged.
    """
    end = file.seek(0, os.SEEK_END) - 8
    file.seek(max(end, 0))
    tail = file.read(8)
    size = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or not 0 < size <= min(end, _MAX_FOOTER_BYTES):
        raise ValueError(f"no footer, or one of more than {_MAX_FOOTER_BYTES} bytes")
    file.seek(end - size)
    try:
        groups = _Compact(file.read(size)).struct().get(4, [])
        return [_claim(column[3]) for group in groups for column in group[1]]
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("its footer is damaged") from error


def _claim(column: dict[int, Any]) -> ColumnClaim:
    path = tuple(part.decode(errors="replace") for part in column[3])
    if not path:
        raise LookupError("a column without a name")
    return ColumnClaim(path, column[1] == _BYTE_ARRAY, int(column[5]), int(column[6]))


class _Compact:
    """Parser of Thrift's compact protocol; structs become dictionaries by field number."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            kind, step = header & 15, header >> 4
            number = number + step if step else self._integer()
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind in _INTEGERS:
            return self._integer()
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if kind in _LISTS:
            header = self._byte()
            size = header >> 4 if header >> 4 < 15 else self._unsigned()
            return [self._value(header & 15) for _ in range(size)]
        if kind == _STRUCT:
            return self.struct()
        raise LookupError(f"kind {kind}")

    def _byte(self) -> int:
        value = self._data[self._place]
        self._place += 1
        return value

    def _bytes(self, size: int) -> bytes:
        if size > len(self._data) - self._place:
            raise LookupError("the end")
        self._place += size
        return self._data[self._place - size : self._place]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise LookupError("a number of more than 64 bits")

    def _integer(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)


_ERRORS = (
    ValueError, ArithmeticError, LookupError, TypeError, RecursionError, EOFError, OSError,
    csv.Error, struct.error, tarfile.TarError, pa.ArrowException,
)  # fmt: skip
"""Errors of the standard library and Arrow about damaged files."""

# limits of claims, far above those of real data sets
_FREE_ROWS, _ROWS_PER_BYTE = 1_000_000, 8
_FREE_BYTES, _BYTES_PER_BYTE = 2**26, 100


@contextmanager
def parsing(file: str | os.PathLike[str]) -> Iterator[None]:
    """Raise errors of parsers as `AnnotationError` with the name of the file."""
    try:
        yield
    except _ERRORS as error:
        lines = str(getattr(error, "strerror", None) or error).splitlines() or [""]
        reason = _printable(lines[0][:200]) or type(error).__name__
        raise AnnotationError(file, 0, f"cannot be read ({reason})") from error


def require_file(path: str | os.PathLike[str]) -> None:
    """Refuse folders, pipes and devices, since reading them may never end.

    Raises:
        AnnotationError: the path exists, but is not a file.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # opening it reports the error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise AnnotationError(path, 0, f"is {kind}, not a file; give a file")


def read_parquet_table(
    file: str | os.PathLike[str],
    data: bytes | None = None,
    wanted: Sequence[str] | None = None,
    free_items: int = _FREE_ROWS,
) -> tuple[pa.Table, dict[str, str]]:
    """Return columns of a Parquet file, and its metadata as text.

    Args:
        data: bytes of the file; None reads the file.
        wanted: names of columns, if present; None reads all.
        free_items: numbers in lists that a file of any size may claim, since equal ones need no space.

    Raises:
        AnnotationError: the file is damaged, its text is not UTF-8, or it claims too much for its size.
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
    """Yield a column of numbers, or of lists of them, in chunks; nothing if it is missing.

    Args:
        num_rows: most rows of a chunk.
        free_items: see `read_parquet_table`.

    Raises:
        AnnotationError: see `read_parquet_table`.
    """
    with _opened(file, None, [name], free_items) as (opened, names, _):
        if names:
            for batch in opened.iter_batches(num_rows, columns=names, use_threads=False):
                yield batch.column(0)


def read_parquet_schema(file: str | os.PathLike[str]) -> pa.Schema:
    """Return the schema of a Parquet file, with text as dictionaries.

    Raises:
        AnnotationError: the file is damaged, or claims too much for its size.
    """
    with _opened(file, None, None) as (opened, _, _):
        return opened.schema_arrow


@contextmanager
def _opened(
    file: str | os.PathLike[str], data: bytes | None, wanted: Sequence[str] | None, free_items: int = _FREE_ROWS
) -> Iterator[tuple[parquet.ParquetFile, list[str], int]]:
    """Give an open Parquet file, its wanted columns and its size, after checking its claims."""
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
        raise AnnotationError(file, 0, f"cannot be read as Parquet ({reason})") from None


def _check_claims(
    file: str | os.PathLike[str], size: int, num_rows: int, claims: Sequence[ColumnClaim], free_items: int
) -> None:
    """Refuse claims that are too large for the size of the file."""
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
            f"{max_rows:,} and {max_bytes:,}; write fewer or smaller columns"
        )  # fmt: skip


def _check_text(file: str | os.PathLike[str], name: str, column: pa.ChunkedArray, limit: int) -> None:
    """Refuse text that is not UTF-8, or that needs too much memory without dictionaries."""
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
            raise AnnotationError(file, 0, f"column {name} has {bad[:80]!r}, which is not UTF-8") from None
        if pa.types.is_fixed_size_binary(entries.type) or not len(entries):
            continue
        limit -= int(lengths(entries)[values.indices.drop_null().to_numpy()].sum())
        if limit < 0:
            raise AnnotationError(file, 0, f"column {name} has too much text for a file of this size")


def _decoded(column: pa.ChunkedArray) -> pa.Array:
    """Return a column without dictionaries."""
    array = joined(column)
    if is_list(array.type) and pa.types.is_dictionary(array.type.value_type):
        return array.cast(pa.large_list(pa.large_string()))
    return array


def _texts(file: str | os.PathLike[str], metadata: dict[bytes, bytes]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for key, value in metadata.items():
        if not _is_utf8(key) or not _is_utf8(value):
            raise AnnotationError(file, 0, f"its metadata have {key[:80]!r}: {value[:80]!r}, which is not UTF-8")
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
