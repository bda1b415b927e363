"""What an extraction is, and what has become of each video."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from mvit_video.data.annotations.arrow import compute
from mvit_video.data.jobs import Ledger, written_whole
from mvit_video.data.scanning.checks import size_and_time
from mvit_video.features.inputs import Inputs
from mvit_video.types import ConfigError

RECORD, MANIFEST, LEDGER, LOCK = "extract.json", "manifest.parquet", "ledger", ".lock"

_SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "status": pa.string(),
        "num_windows": pa.int64(),
        "reason": pa.string(),
        "key": pa.string(),
        "size": pa.int64(),
        "mtime_ns": pa.int64(),
    }
)
Stamp = tuple[int | None, int | None]


class Manifest:
    """The ledger of an extraction: a row per video, its last result.

    Args:
        folder: of the extraction.
        key: of the extractor.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._file, self._key = folder / MANIFEST, key
        self._ledger = Ledger(folder / LEDGER, _SCHEMA)

    def done(self, inputs: Inputs) -> tuple[pa.Array, NDArray[np.int64]]:
        """Names of the videos whose features are as they should be, and which of the inputs have none of these.

        A video without features is one that failed, or was never tried, or whose file has changed since.
        """
        rows = self._ledger.load()
        rows = rows.filter(compute.and_(compute.equal(rows["status"], "ok"), compute.equal(rows["key"], self._key)))
        columns = (rows[name].to_pylist() for name in ("path", "size", "mtime_ns"))
        known = {path: (size, mtime_ns) for path, size, mtime_ns in zip(*columns, strict=True)}
        todo: list[int] = []
        for number, name in enumerate(inputs.names.to_pylist()):
            if name not in known or known[name] != self.stamp(inputs.location(number)):
                known.pop(name, None)
                todo.append(number)
        return pa.array(list(known), pa.string()), np.array(todo, dtype=np.int64)

    @staticmethod
    def stamp(location: Path | None) -> Stamp:
        """Size and time of change of a file, by which another content is known; None of a part of an archive."""
        return (None, None) if location is None else size_and_time(str(location))

    def add_done(self, name: str, stamp: Stamp, num_windows: int) -> None:
        """Notes a video whose features are on disk."""
        self._add(name, "ok", num_windows, None, stamp)

    def add_failed(self, name: str, stamp: Stamp, reason: str) -> None:
        """Notes a video that has no features."""
        self._add(name, "failed", 0, reason, stamp)

    def flush(self) -> None:
        """Puts what was noted on disk."""
        self._ledger.flush()

    def write(self) -> pa.Table:
        """Writes `manifest.parquet`, and returns it."""
        self.flush()
        rows = self._ledger.load()
        with written_whole(self._file) as unfinished:
            parquet.write_table(rows, unfinished)
        return rows

    def _add(self, name: str, status: str, num_windows: int, reason: str | None, stamp: Stamp) -> None:
        self._ledger.add(
            {"path": name, "status": status, "num_windows": num_windows, "reason": reason, "key": self._key}
            | dict(zip(("size", "mtime_ns"), stamp, strict=True))
        )


@contextmanager
def claimed(folder: Path, record: Mapping[str, Any]) -> Iterator[None]:
    """Makes a folder the one of an extraction, alone, for the while.

    Args:
        record: what is extracted, written to `extract.json`.

    Raises:
        ConfigError: it cannot be written to, another program writes there, or it holds another extraction.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("w") as lock:
            _lock(lock.fileno(), folder)
            _check(folder, record)
            with written_whole(folder / RECORD) as unfinished:
                unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            yield
    except OSError as error:
        raise ConfigError(
            f"--out {error.filename or folder}: cannot be written to ({error.strerror or error})"
        ) from error


def _lock(file: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on this system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"--out {folder}: another program extracts to this folder; wait for it, or choose another"
        ) from None


def _check(folder: Path, record: Mapping[str, Any]) -> None:
    """Refuses a folder with other features, and says in what they differ."""
    file = folder / RECORD
    if not file.exists():
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        there = {name: found[name] for name in record}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: not the record of an extraction; choose another --out") from error
    if (there["key"], there["format"]) == (record["key"], record["format"]):
        return
    told = [name for name in record if name not in ("key", "feature_shape", "class_names", "checkpoint")]
    differs = [f"{name} {there[name]} there, {record[name]} here" for name in told if there[name] != record[name]]
    what = "; ".join(differs) or "the weights differ"
    raise ConfigError(f"--out {folder} holds other features ({what}); choose another folder, or delete that one")
