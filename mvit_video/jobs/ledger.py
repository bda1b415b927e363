"""Ledger of finished work: rows in atomic Parquet files."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from mvit_video.jobs.folder import Folder

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
