"""What the footer of a Parquet file claims of its columns.

Arrow ends the process, without an error that could be caught, where it is asked for the claims of a damaged footer.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO, NamedTuple

_MAGIC = b"PAR1"
_MAX_FOOTER_BYTES = 2**24
_BYTE_ARRAY = 6
# the kinds of values in Thrift's compact protocol
_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, (9, 10), 12


class ColumnClaim(NamedTuple):
    """What the footer claims of one column of one row group.

    Attributes:
        path: name of the column, and of what is nested in it.
        is_text: whether its values are strings or bytes.
    """

    path: tuple[str, ...]
    is_text: bool
    num_values: int
    num_bytes: int


def read_claims(file: BinaryIO) -> list[ColumnClaim]:
    """Return the claims of all row groups.

    Raises:
        ValueError: the file has no footer, or a damaged one.
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
    """Values in Thrift's compact protocol, structs as dictionaries by the numbers of their fields."""

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
