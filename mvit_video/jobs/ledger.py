"""What has been done already: rows on disk that a kill cannot tear."""

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
    """One row per path, in Parquet part files of which each appears whole.

    Args:
        folder: path or URL of where the part files lie.
        schema: columns; the first is `path`, and of rows with the same path the last one counts.
        added: the last columns, which part files of an earlier version lack; there they are null.

    Attributes:
        damaged: files that could not be read, where they are now.
    """

    def __init__(self, folder: str | os.PathLike[str], schema: pa.Schema, added: Sequence[str] = ()) -> None:
        self._folder, self.schema, self._added = Folder(folder), schema, added
        self._earlier = pa.schema([field for field in schema if field.name not in added])
        self.damaged: list[str] = []
        self._rows: list[dict[str, Any]] = []
        self._last_flush = time.monotonic()

    def load(self) -> pa.Table:
        """All rows. Part files are merged into one; other files stay, and damaged parts go to the folder `damaged`."""
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
        """Keeps a row, and writes those that wait once they are many or a few seconds have passed."""
        self._rows.append(row)
        if len(self._rows) >= _ROWS_PER_PART or time.monotonic() - self._last_flush > _SECONDS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that wait."""
        if self._rows:
            self._write(pa.Table.from_pylist(self._rows, self.schema))
        self._rows, self._last_flush = [], time.monotonic()

    def _read(self, part: str) -> pa.Table | None:
        data = self._folder.read(part)  # whatever keeps it from being read is no reason to forget it
        if data is None:
            return None
        try:
            table = parquet.read_table(pa.BufferReader(data))
            table.validate(full=True)  # text may be no UTF-8
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
    """Name of a new part file: the time orders parts, the process keeps two programs apart."""
    return f"part-{time.time_ns():020d}-{os.getpid()}.{suffix}"
