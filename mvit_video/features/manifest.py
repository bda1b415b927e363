"""Record of an extraction, and the manifest with the status of each video."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.features.inputs import Inputs, Stamp
from mvit_video.jobs import Folder, Ledger, is_unfinished, lock
from mvit_video.jobs.arrow import compute
from mvit_video.types import ConfigError

if TYPE_CHECKING:
    from mvit_video.features.writers import FeatureWriter

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
        "version": pa.string(),
    }
)


class Plan(NamedTuple):
    """Work of an extraction.

    Attributes:
        todo: `(V,)` numbers of the videos to extract.
        num_lost: videos that were done and have lost features.
        num_again: lost videos that are to be extracted.
        damaged: new places of files that could not be read.
    """

    todo: NDArray[np.int64]
    num_lost: int
    num_again: int
    damaged: list[str]

    def describe(self) -> list[str]:
        """Return a line if something was lost."""
        parts = []
        if self.num_lost:
            videos = "1 video" if self.num_lost == 1 else f"{self.num_lost:,} videos"
            parts.append(f"features of {videos} are missing or damaged, {self.num_again:,} extracted again")
        if self.damaged:
            files = "1 damaged file" if len(self.damaged) == 1 else f"{len(self.damaged):,} damaged files"
            parts.append(f"{files} moved, the first to {self.damaged[0]}")
        return ["; ".join(parts)] if parts else []


class Manifest:
    """Ledger of an extraction: a row per video with its last result.

    Args:
        folder: path or URL of the extraction.
        key: key of the extractor.
    """

    def __init__(self, folder: str | os.PathLike[str], key: str) -> None:
        self._folder, self._key = Folder(folder), key
        self._ledger = Ledger(self._folder / LEDGER, _SCHEMA, added=["version"])

    def begin(self, inputs: Inputs, writer: FeatureWriter) -> Plan:
        """Compare the features on disk with the ledger and return the videos to extract.

        These are the videos that are new, failed, changed since, or lost their features.
        """
        listed, stamps = self._listed(inputs)
        kept = writer.keep_only(listed)
        lost = [name for name in listed if name not in kept.videos]
        for name in lost:
            self.add(name, stamps[name], reason="its features were lost")
        self.flush()
        names = inputs.names.to_pylist()
        todo = [number for number, name in enumerate(names) if name not in kept.videos]
        num_again = len(set(lost).intersection(names))
        return Plan(np.array(todo, dtype=np.int64), len(lost), num_again, [*self._ledger.damaged, *kept.damaged])

    def _listed(self, inputs: Inputs) -> tuple[dict[str, int], dict[str, Stamp]]:
        """Return windows and stamp of each video that is done and has not changed."""
        rows = self._ledger.load()
        rows = rows.filter(compute.and_(compute.equal(rows["status"], "ok"), compute.equal(rows["key"], self._key)))
        columns = (rows[name].to_pylist() for name in ("path", "num_windows", *Stamp._fields))
        listed, stamps = dict[str, int](), dict[str, Stamp]()
        for path, num_windows, *stamp in zip(*columns, strict=True):
            listed[path], stamps[path] = num_windows, Stamp(*stamp)
        for number, name in enumerate(inputs.names.to_pylist()):
            if name in listed and stamps[name] != inputs.stamp(number):
                del listed[name]
        return listed, stamps

    def add(self, name: str, stamp: Stamp, num_windows: int = 0, reason: str | None = None) -> None:
        """Add a video whose features are on disk, or the reason why it has none."""
        status = "ok" if reason is None else "failed"
        row = {"path": name, "status": status, "num_windows": num_windows, "reason": reason, "key": self._key}
        self._ledger.add(row | stamp._asdict())

    def flush(self) -> None:
        """Write the rows that were added."""
        self._ledger.flush()

    def write(self) -> pa.Table:
        """Write `manifest.parquet`, and return it."""
        self.flush()
        rows = self._ledger.load()
        self._folder.write_table(MANIFEST, rows)
        return rows


@contextmanager
def claimed(place: str | os.PathLike[str], record: Mapping[str, Any]) -> Iterator[None]:
    """Claim a folder for an extraction; a path is locked against other programs.

    Args:
        place: path or URL of the folder.
        record: content of `extract.json`.

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
        place = folder if is_unfinished(Path(str(error.filename)).name) else error.filename or folder
        raise ConfigError(
            f"--out {place}: cannot be written to ({error.strerror or error}); the same command resumes once it can"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    # never through a link, whose target may be anything, and without truncating it
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        if lock(file) is False:
            raise ConfigError(
                f"--out {folder}: another program extracts to this folder; wait for it, or choose another"
            )
        yield
    finally:
        os.close(file)


def _check(folder: Folder, record: Mapping[str, Any]) -> None:
    """Refuse a folder of something else, or with other features, and say how they differ."""
    content = folder.read(RECORD)
    if content is None:
        foreign = [name for name in folder.entries() if name != LOCK and not is_unfinished(name)]
        if foreign:
            raise ConfigError(
                f"--out {folder} holds {foreign[0]} and no {RECORD}: it is not the folder of an extraction; "
                "choose a new or an empty one"
            )
        return
    try:
        found = json.loads(content)
        there = {name: found[name] for name in record}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{folder / RECORD}: not the record of an extraction; choose another --out") from error
    if (there["key"], there["format"]) == (record["key"], record["format"]):
        return
    named = [name for name in record if name not in ("key", "feature_shape", "class_names", "checkpoint")]
    differs = [f"{name} {there[name]} there, {record[name]} here" for name in named if there[name] != record[name]]
    what = "; ".join(differs) or "the weights differ"
    raise ConfigError(f"--out {folder} holds other features ({what}); choose another folder, or delete that one")
