"""Packet indices on disk, so that a file is scanned once."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from multiprocessing import util
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.readers.packet_index import PacketIndex
from mvit_video.jobs import atomic_write, remove_unfinished
from mvit_video.types import ConfigError

Key = tuple[int, int]
Row = tuple[Any, ...]

# part files of another layout have another prefix and are ignored
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
    """Increasing integers: `first + round(i * step)` if exact, else the steps in the narrowest unsigned type."""

    num: int
    first: int
    step: float
    steps: bytes


def to_row(index: PacketIndex) -> Row:
    """Return the values of an index, one per column."""
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
    """Return the index for the values of `to_row`."""
    plain, time_base, stamps, rest = row[:6], Fraction(*row[6:8]), row[8:16], row[16:]
    pts, key_pts = _unpack(_Stamps(*stamps[:4])), _unpack(_Stamps(*stamps[4:]))
    values: Row = (*plain, time_base, pts if len(pts) else None, key_pts, *rest)
    return PacketIndex(*values)


def _pack(values: NDArray[np.int64], usual_step: float) -> _Stamps:
    if len(values) == 0:
        return _Stamps(0, 0, 0.0, b"")
    first, steps = int(values[0]), np.diff(values)
    # time stamps in milliseconds are multiples of a step, rounded
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
    """Memory-mapped file of rows sorted by key."""

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
        """Return the row of a key; None if it is missing or its checksum is wrong."""
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
    """Return the parts of a folder by name, except one; known parts stay open, damaged files are removed."""
    parts = {name: known.get(name) or _load(folder / name) for name in _names(folder) if name != without}
    return {name: part for name, part in parts.items() if part is not None}


def write_part(folder: Path, rows: Mapping[Key, Row], name: str | None = None) -> str:
    """Write rows as a new part, or replace the part of this name; return its name."""
    keys = sorted(rows)
    columns = list(zip(*((*key, _checksum(key, rows[key]), *rows[key]) for key in keys), strict=True))
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return _write(folder, pa.record_batch(arrays, schema=_SCHEMA), name)


def merge_parts(folder: Path) -> None:
    """Merge small parts if there are many; at any time each row is in at least one part."""
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
        return None  # merged by another process
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


# at most this is lost if a process is killed
_FLUSH_ROWS = 64
_FLUSH_SECONDS = 5.0
# a process rewrites its part until it is this long
_PART_ROWS = 4096
_LIST_SECONDS = 2.0


class IndexCache:
    """Cache of packet indices in a folder, shared by any number of processes; it can be pickled.

    A file is identified by absolute path, size and modification time. Each process writes its own part files,
    atomically; damaged parts are ignored. A read-only folder is only read.

    Args:
        folder: created if missing.

    Raises:
        ConfigError: the folder cannot be created.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"index cache {self.folder} cannot be created ({error})") from error
        merge_parts(self.folder)
        self._state: _State | None = None

    def get(self, path: str, status: os.stat_result) -> PacketIndex | None:
        """Return the index of a file, None if it is unknown."""
        row = self._here().find(_key(path, status))
        return None if row is None else from_row(row)

    def put(self, path: str, status: os.stat_result, index: PacketIndex) -> None:
        """Add the index of a file; it is written with others, or when the process ends."""
        self._here().add(_key(path, status), to_row(index))

    def flush(self) -> None:
        """Write the indices that are still in memory."""
        self._here().flush()

    def _here(self) -> _State:
        """Return the state of this process; a fork leaves unwritten rows to its parent."""
        state = self._state
        if state is None or state.process != os.getpid():
            state = self._state = _State(self.folder)
            # unlike atexit, this runs in worker processes too
            util.Finalize(self, state.flush, exitpriority=10)
        return state

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return _attach, (self.folder,)

    def __repr__(self) -> str:
        return f"IndexCache({str(self.folder)!r})"


def _attach(folder: Path) -> IndexCache:
    """Return the same cache in another process, which does not merge parts."""
    cache = IndexCache.__new__(IndexCache)
    cache.folder, cache._state = folder, None
    return cache


def _key(path: str, status: os.stat_result) -> Key:
    text = f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}"
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


class _State:
    """State of one process: parts of the folder and rows to write."""

    def __init__(self, folder: Path) -> None:
        self.process = os.getpid()
        self._folder = folder
        self._lock = threading.Lock()
        self._parts: dict[str, Part] = {}
        self._listed = -_LIST_SECONDS
        self._rows: dict[Key, Row] = {}  # of the part that is still growing
        self._part: str | None = None
        self._num_written = 0
        self._oldest = 0.0  # time of the first unwritten row

    def find(self, key: Key) -> Row | None:
        with self._lock:
            if key in self._rows:
                return self._rows[key]
            row = self._find_in_parts(key)
            if row is None and time.monotonic() - self._listed >= _LIST_SECONDS:
                self._list()
                row = self._find_in_parts(key)
            return row

    def add(self, key: Key, row: Row) -> None:
        with self._lock:
            if len(self._rows) == self._num_written:
                self._oldest = time.monotonic()
            self._rows[key] = row
            waiting = len(self._rows) - self._num_written
            if waiting < _FLUSH_ROWS and time.monotonic() - self._oldest < _FLUSH_SECONDS:
                return
        self.flush()

    def flush(self) -> None:
        with self._lock:
            if os.getpid() != self.process or len(self._rows) == self._num_written:
                return
            # a read-only or full disk: the rows serve this process only
            with suppress(OSError):
                self._part = write_part(self._folder, self._rows, self._part)
            self._num_written = len(self._rows)
            if len(self._rows) >= _PART_ROWS:
                self._rows, self._part, self._num_written = {}, None, 0
            self._list()

    def _find_in_parts(self, key: Key) -> Row | None:
        return next((row for part in self._parts.values() if (row := part.find(key)) is not None), None)

    def _list(self) -> None:
        self._listed = time.monotonic()
        self._parts = list_parts(self._folder, self._parts, without=self._part)

    def __reduce__(self) -> NoReturn:
        raise TypeError("belongs to one process")
