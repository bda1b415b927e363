"""Folders of atomic files, on a disk or at a URL, and ledgers of finished work in them."""

from __future__ import annotations

import os
import posixpath
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
from pyarrow import parquet

from mvit_video.jobs.files import atomic_write, remove_unfinished
from mvit_video.jobs.foreign import require_file
from mvit_video.jobs.stores import file_system, is_url, local_path
from mvit_video.types import AnnotationError, ConfigError


class Folder:
    """Folder at a path or URL, created with its first file.

    Files are atomic on disks and in object stores, but not on servers such as `ftp://`.

    Attributes:
        path: local path; None for a URL.

    Raises:
        ConfigError: the protocol of the URL is unknown, or its package is missing.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        try:
            self.place = local_path(os.fspath(place))
            self._system, self._root = file_system(self.place)
        except AnnotationError as error:
            raise ConfigError(str(error)) from error
        self.path = None if is_url(self.place) else Path(self.place)

    def __str__(self) -> str:
        return self.place

    def __fspath__(self) -> str:
        return self.place

    def __truediv__(self, name: str) -> Folder:
        return Folder(posixpath.join(self.place, name))

    def names(self, pattern: str) -> list[str]:
        """Return the sorted names of the files that match a pattern; none if the folder is missing."""
        self._system.invalidate_cache(self._root)  # others may have written
        found = self._system.glob(posixpath.join(_escape(self._root), pattern))
        names = sorted(posixpath.basename(str(entry)) for entry in found)
        return [name for name in names if self.path is None or (self.path / name).is_file()]

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        return cast("int", self._system.size(self._file(name)))

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it is missing.

        Raises:
            AnnotationError: it is a folder or a pipe.
        """
        if self.path is not None:
            require_file(self.path / name)
        try:
            return cast("bytes", self._system.cat_file(self._file(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        """Write or replace a file."""
        if self.path is None:
            self._system.pipe_file(self._file(name), bytes(data))
            return
        with atomic_write(self.path / name) as unfinished:
            unfinished.write_bytes(data)

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._system.rm_file(self._file(name))

    def entries(self) -> list[str]:
        """Return the sorted names of all files and folders; none if the folder is missing."""
        self._system.invalidate_cache(self._root)
        try:
            found = self._system.ls(self._root, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = (
            posixpath.basename(str(entry).rstrip("/"))
            for entry in found
            if str(entry).strip("/") != self._root.strip("/")
        )
        return sorted(names)

    def quarantine(self, name: str) -> str:
        """Move a damaged file to the folder `damaged` beside this one; return its new place."""
        parent, own = posixpath.split(self.place.rstrip("/"))
        place = Folder(posixpath.join(parent, "damaged", own, posixpath.dirname(name)))
        kept = posixpath.basename(name)
        if kept in place.entries():
            kept += f".{time.time_ns()}"
        self._system.makedirs(place._root, exist_ok=True)
        self._system.mv(self._file(name), place._file(kept))
        return str(place / kept)

    def remove_unfinished(self) -> None:
        """Remove the temporary files of killed processes."""
        if self.path is not None:
            remove_unfinished(self.path)

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a Parquet file; only the given columns are fetched."""
        file = cast("BinaryIO", self._system.open(self._file(name), "rb"))
        with file, parquet.ParquetFile(file) as source:
            return source.read(columns=None if columns is None else list(columns))

    def write_table(self, name: str, rows: pa.Table, **options: Any) -> None:
        """Write a Parquet file, via memory; `options` are those of `pyarrow.parquet.write_table`."""
        buffer = pa.BufferOutputStream()
        parquet.write_table(rows, buffer, **options)
        self.write(name, buffer.getvalue())

    def _file(self, name: str) -> str:
        return posixpath.join(self._root, name)


def _escape(path: str) -> str:
    """Quote the wildcards in a path."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


PART_NAME = re.compile(r"part-\d{20}-\d+\.(?:parquet|h5)")
_ROWS_PER_PART = 1000
_SECONDS_PER_PART = 5.0
_NUM_THREADS = 8  # at a URL a part takes long for its size


class Ledger:
    """Rows by path, in atomic Parquet part files.

    Args:
        folder: path or URL of the part files.
        schema: columns; the first is `path`, and the last row of a path counts.
        added: last columns, which are null in part files of earlier versions.

    Attributes:
        damaged: new places of files that could not be read.
    """

    def __init__(self, folder: str | os.PathLike[str], schema: pa.Schema, added: Sequence[str] = ()) -> None:
        self._folder, self.schema, self._added = Folder(folder), schema, added
        self._earlier = pa.schema([field for field in schema if field.name not in added])
        self.damaged: list[str] = []
        self._rows: list[dict[str, Any]] = []
        self._last_flush = time.monotonic()

    def load(self) -> pa.Table:
        """Return all rows; part files are merged, and damaged ones are moved to the folder `damaged`."""
        self._folder.remove_unfinished()
        names = self._folder.names("part-*.parquet")
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            parts = {
                name: table
                for name, table in zip(names, threads.map(self._read, names), strict=True)
                if table is not None
            }
        rows = pa.concat_tables([self.schema.empty_table(), *parts.values()])
        numbered = rows.select(["path"]).append_column("row", pa.array(range(rows.num_rows), pa.int64()))
        last = numbered.group_by("path").aggregate([("row", "max")])["row_max"]
        rows = rows.take(last.combine_chunks().sort())
        if len(parts) > 1:
            self._write(rows)
            for part in parts:
                self._folder.remove(part)
        return rows

    def add(self, row: dict[str, Any]) -> None:
        """Add a row; rows are written when they are many or a few seconds have passed."""
        self._rows.append(row)
        if len(self._rows) >= _ROWS_PER_PART or time.monotonic() - self._last_flush > _SECONDS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Write the rows in memory."""
        if self._rows:
            self._write(pa.Table.from_pylist(self._rows, self.schema))
        self._rows, self._last_flush = [], time.monotonic()

    def _read(self, part: str) -> pa.Table | None:
        data = self._folder.read(part)  # errors of the disk are raised
        if data is None:
            return None
        try:
            table = parquet.read_table(pa.BufferReader(data))
            table.validate(full=True)  # text may not be UTF-8
        except (pa.ArrowException, OSError):
            if PART_NAME.fullmatch(part):
                self.damaged.append(self._folder.quarantine(part))
            return None
        if table.schema.equals(self._earlier):
            for name in self._added:
                table = table.append_column(self.schema.field(name), pa.nulls(len(table), self.schema.field(name).type))
        return table if table.schema.equals(self.schema) else None

    def _write(self, rows: pa.Table) -> None:
        self._folder.write_table(new_part("parquet"), rows)


def new_part(suffix: str) -> str:
    """Return the name of a new part file, ordered by time and unique to this process."""
    return f"part-{time.time_ns():020d}-{os.getpid()}.{suffix}"
