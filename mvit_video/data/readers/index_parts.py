"""Files of packet indices: columns in Arrow's format, sorted by key, read through a memory map."""

from __future__ import annotations

import os
import re
import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.readers.packet_index import PacketIndex
from mvit_video.jobs import atomic_write, remove_unfinished

Key = tuple[int, int]
Row = tuple[Any, ...]

# files of another layout, or with other reasons to refuse a library, have another prefix and are ignored
_PREFIX, _SUFFIX = "index-2-", ".arrow"
_NAME = re.compile(rf"{_PREFIX}[0-9a-f]{{32}}\{_SUFFIX}")
_MERGE_PARTS = 8
_MERGE_ROWS = 2**20

_VALUES = [
    ("num_frames", pa.int64()),
    ("fps", pa.float64()),
    ("duration_seconds", pa.float64()),
    ("height", pa.int32()),
    ("width", pa.int32()),
    ("rotation", pa.int16()),
    ("time_base_numerator", pa.int64()),
    ("time_base_denominator", pa.int64()),
    ("num_pts", pa.int64()),
    ("first_pts", pa.int64()),
    ("pts_step", pa.float64()),
    ("pts_steps", pa.binary()),
    ("num_keys", pa.int64()),
    ("first_key", pa.int64()),
    ("key_step", pa.float64()),
    ("key_steps", pa.binary()),
    ("is_damaged", pa.bool_()),
    ("codec", pa.string()),
    ("container", pa.string()),
    ("decord_refusal", pa.string()),
    ("torchcodec_refusal", pa.string()),
]
_SCHEMA = pa.schema([("key", pa.uint64()), ("key_rest", pa.uint64()), ("checksum", pa.uint32()), *_VALUES])


class _Stamps(NamedTuple):
    """Rising integers: `num` of `first + round(i * step)` where that is exact, else the steps themselves.

    `steps` holds unsigned integers of the narrowest width that fits, which follows from its length.
    """

    num: int
    first: int
    step: float
    steps: bytes


def to_row(index: PacketIndex) -> Row:
    """The values of an index, one per column."""
    ticks = 1 / (index.fps * float(index.time_base))
    pts = np.empty(0, dtype=np.int64) if index.pts is None else index.pts
    return (
        index.num_frames,
        index.fps,
        index.duration_seconds,
        index.height,
        index.width,
        index.rotation,
        index.time_base.numerator,
        index.time_base.denominator,
        *_pack(pts, ticks),
        *_pack(index.key_pts, 0.0),
        index.is_damaged,
        index.codec,
        index.container,
        index.decord_refusal,
        index.torchcodec_refusal,
    )


def from_row(row: Row) -> PacketIndex:
    """The index of `to_row`'s values."""
    plain, time_base, stamps, rest = row[:6], Fraction(*row[6:8]), row[8:16], row[16:]
    pts, key_pts = _unpack(_Stamps(*stamps[:4])), _unpack(_Stamps(*stamps[4:]))
    values: Row = (*plain, time_base, pts if len(pts) else None, key_pts, *rest)
    return PacketIndex(*values)


def _pack(values: NDArray[np.int64], usual_step: float) -> _Stamps:
    if len(values) == 0:
        return _Stamps(0, 0, 0.0, b"")
    first, steps = int(values[0]), np.diff(values)
    # stamps in milliseconds are a regular step that was rounded
    for step in (float(steps[0]), usual_step) if len(steps) else (0.0,):
        regular = _Stamps(len(values), first, step, b"")
        if np.array_equal(_unpack(regular), values):
            return regular
    width = next(kind for kind in ("u1", "u2", "u4", "u8") if steps.max() <= np.iinfo(kind).max)
    return _Stamps(len(values), first, 0.0, steps.astype(f"<{width}").tobytes())


def _unpack(stamps: _Stamps) -> NDArray[np.int64]:
    if not stamps.steps:
        return stamps.first + np.rint(np.arange(stamps.num) * stamps.step).astype(np.int64)
    steps = np.frombuffer(stamps.steps, dtype=f"<u{len(stamps.steps) // (stamps.num - 1)}")
    return stamps.first + np.concatenate([[0], np.cumsum(steps, dtype=np.int64)])


class Part:
    """A file of rows; only the keys and the row that is asked for are ever touched."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            if not reader.schema.equals(_SCHEMA) or reader.num_record_batches != 1:
                raise ValueError("other columns")
            self.batch = reader.get_batch(0)
        self.batch.validate(full=True)
        if any(self.batch.column(i).null_count for i in range(3)):
            raise ValueError("keys are missing")
        self._keys = self.batch.column(0).to_numpy()
        if (self._keys[1:] < self._keys[:-1]).any():
            raise ValueError("keys are not sorted")

    def find(self, key: Key) -> Row | None:
        """The row of a key, None when it is not there or does not agree with its checksum."""
        i = int(np.searchsorted(self._keys, np.uint64(key[0])))
        while i < len(self._keys) and int(self._keys[i]) == key[0]:
            _, rest, checksum, *values = (column[i].as_py() for column in self.batch.columns)
            row = tuple(values)
            if rest == key[1] and checksum == _checksum(key, row):
                return row
            i += 1
        return None


def _checksum(key: Key, row: Row) -> int:
    return zlib.crc32(repr((key, row)).encode())


def list_parts(folder: Path, known: Mapping[str, Part], without: str | None) -> dict[str, Part]:
    """The parts of a folder by name, but for one; the known are not opened again, damaged ones are removed."""
    parts = {name: known.get(name) or _load(folder / name) for name in _names(folder) if name != without}
    return {name: part for name, part in parts.items() if part is not None}


def write_part(folder: Path, rows: Mapping[Key, Row], name: str | None = None) -> str:
    """Write rows as a part, in place of the one of this name; its name."""
    keys = sorted(rows)
    columns = list(zip(*((*key, _checksum(key, rows[key]), *rows[key]) for key in keys), strict=True))
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return _write(folder, pa.record_batch(arrays, schema=_SCHEMA), name)


def merge_parts(folder: Path) -> None:
    """Write small parts as one when there are many; rows are in one part or in both, never in none."""
    names = _names(folder)
    if len(names) <= _MERGE_PARTS:
        return
    small = {name: part for name, part in list_parts(folder, {}, None).items() if part.batch.num_rows < _MERGE_ROWS}
    if len(small) <= _MERGE_PARTS:
        return
    table = pa.Table.from_batches([part.batch for part in small.values()])
    key, rest = (table.column(i).to_numpy() for i in range(2))
    order = np.lexsort((rest, key))
    is_new = np.r_[True, (np.diff(key[order]) != 0) | (np.diff(rest[order]) != 0)]
    batch = table.take(pa.array(order[is_new])).combine_chunks().to_batches()[0]
    with suppress(OSError):
        _write(folder, batch, None)
        for name in small:
            (folder / name).unlink(missing_ok=True)
    remove_unfinished(folder)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(filter(_NAME.fullmatch, os.listdir(folder)))
    except OSError:
        return []


def _load(path: Path) -> Part | None:
    try:
        return Part(path)
    except FileNotFoundError:
        return None  # another process has merged it
    except (pa.ArrowException, OSError, ValueError):
        with suppress(OSError):
            path.unlink()
        return None


def _write(folder: Path, batch: pa.RecordBatch, name: str | None) -> str:
    name = name or f"{_PREFIX}{uuid.uuid4().hex}{_SUFFIX}"
    with (
        atomic_write(folder / name) as unfinished,
        pa.OSFile(str(unfinished), "wb") as file,
        pa.ipc.new_file(file, _SCHEMA) as writer,
    ):
        writer.write_batch(batch)
    return name
