"""What an extraction is, and what has become of each video."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.annotations.arrow import compute
from mvit_video.data.jobs import Folder, Ledger
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
        folder: path or URL of the extraction.
        key: of the extractor.
    """

    def __init__(self, folder: str | os.PathLike[str], key: str) -> None:
        self._folder, self._key = Folder(folder), key
        self._ledger = Ledger(self._folder / LEDGER, _SCHEMA)

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
        self._folder.write_table(MANIFEST, rows)
        return rows

    def _add(self, name: str, status: str, num_windows: int, reason: str | None, stamp: Stamp) -> None:
        self._ledger.add(
            {"path": name, "status": status, "num_windows": num_windows, "reason": reason, "key": self._key}
            | dict(zip(("size", "mtime_ns"), stamp, strict=True))
        )


@contextmanager
def claimed(place: str | os.PathLike[str], record: Mapping[str, Any]) -> Iterator[None]:
    """Makes a folder the one of an extraction, for the while; at a path it is alone there.

    Args:
        place: path or URL of the folder.
        record: what is extracted, written to `extract.json`.

    Raises:
        ConfigError: it cannot be written to, another program writes there, or it holds another extraction.
    """
    folder = Folder(place)
    try:
        with nullcontext() if folder.path is None else _alone(folder.path):
            _check(folder, record)
            folder.write(RECORD, (json.dumps(record, indent=1) + "\n").encode())
            yield
    except OSError as error:
        raise ConfigError(
            f"--out {error.filename or folder}: cannot be written to ({error.strerror or error})"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        _lock(lock.fileno(), folder)
        yield


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


def _check(folder: Folder, record: Mapping[str, Any]) -> None:
    """Refuses a folder with other features, and says in what they differ."""
    content = folder.read(RECORD)
    if content is None:
        return
    try:
        found = json.loads(content)
        there = {name: found[name] for name in record}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder / RECORD}: not the record of an extraction; choose another --out") from error
    if (there["key"], there["format"]) == (record["key"], record["format"]):
        return
    told = [name for name in record if name not in ("key", "feature_shape", "class_names", "checkpoint")]
    differs = [f"{name} {there[name]} there, {record[name]} here" for name in told if there[name] != record[name]]
    what = "; ".join(differs) or "the weights differ"
    raise ConfigError(f"--out {folder} holds other features ({what}); choose another folder, or delete that one")
