"""What has been done already: rows on disk that a kill cannot tear."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from mvit_video.data.jobs.files import written_whole

_ROWS_PER_PART = 1000
_SECONDS_PER_PART = 5.0


class Ledger:
    """One row per path, in Parquet part files of which each appears whole.

    Args:
        folder: where the part files lie.
        schema: columns; the first is `path`, and of rows with the same path the last one counts.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema
        self._rows: list[dict[str, Any]] = []
        self._last_flush = time.monotonic()

    def load(self) -> pa.Table:
        """All rows; part files are merged into one, and files that are none of ours are left out."""
        parts = sorted(self.folder.glob("part-*.parquet"))
        tables = [table for part in parts if (table := self._read(part)) is not None]
        rows = pa.concat_tables([self.schema.empty_table(), *tables])
        numbered = rows.select(["path"]).append_column("row", pa.array(range(rows.num_rows), pa.int64()))
        last = numbered.group_by("path").aggregate([("row", "max")])["row_max"]
        rows = rows.take(last.combine_chunks().sort())
        if len(parts) > 1:
            self._write(rows)
            for part in parts:
                part.unlink()
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

    def _read(self, part: Path) -> pa.Table | None:
        try:
            with parquet.ParquetFile(part) as file:
                table = file.read()
        except (pa.ArrowInvalid, OSError):
            return None
        return table if table.schema.equals(self.schema) else None

    def _write(self, rows: pa.Table) -> None:
        # the time orders parts, the process keeps two programs apart
        with written_whole(self.folder / f"part-{time.time_ns():020d}-{os.getpid()}.parquet") as unfinished:
            parquet.write_table(rows, unfinished)
