"""Packet indices on disk, so that a file is scanned once and not at every opening."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import suppress
from multiprocessing import util
from pathlib import Path
from typing import NoReturn

from mvit_video.data.readers.index_parts import Key, Part, Row, from_row, list_parts, merge_parts, to_row, write_part
from mvit_video.data.readers.packet_index import PacketIndex
from mvit_video.types import ConfigError

# what a killed process loses at most
_FLUSH_ROWS = 64
_FLUSH_SECONDS = 5.0
# a process rewrites its part until it is this long
_PART_ROWS = 4096
_LIST_SECONDS = 2.0


class IndexCache:
    """Packet indices of files in a folder; any number of processes may use the folder at once.

    A file is known by its absolute path, size and time of change. Each process appends to parts of its own, which
    appear whole or not at all; what is damaged there is ignored and made again. A folder that cannot be written is
    only read. The object may be pickled and sent to workers.

    Args:
        folder: made where it does not exist.

    Raises:
        ConfigError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"index cache {self.folder} is not a folder that can be made ({error})") from error
        merge_parts(self.folder)
        self._state: _State | None = None

    def get(self, path: str, status: os.stat_result) -> PacketIndex | None:
        """The index of a file, None when it is not known."""
        row = self._here().find(_key(path, status))
        return None if row is None else from_row(row)

    def put(self, path: str, status: os.stat_result, index: PacketIndex) -> None:
        """Keep the index of a file; it is written with the next lot, or when the process ends."""
        self._here().add(_key(path, status), to_row(index))

    def flush(self) -> None:
        """Write what this process has not yet written."""
        self._here().flush()

    def _here(self) -> _State:
        """The state of this process: a fork leaves what its parent has not written to the parent."""
        state = self._state
        if state is None or state.process != os.getpid():
            state = self._state = _State(self.folder)
            # unlike atexit, this is run in worker processes too
            util.Finalize(self, state.flush, exitpriority=10)
        return state

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return _attach, (self.folder,)

    def __repr__(self) -> str:
        return f"IndexCache({str(self.folder)!r})"


def _attach(folder: Path) -> IndexCache:
    """The same cache in another process, which leaves merging to the first."""
    cache = IndexCache.__new__(IndexCache)
    cache.folder, cache._state = folder, None
    return cache


def _key(path: str, status: os.stat_result) -> Key:
    text = f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}"
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


class _State:
    """What one process knows of the folder, and what it has yet to write."""

    def __init__(self, folder: Path) -> None:
        self.process = os.getpid()
        self._folder = folder
        self._lock = threading.Lock()
        self._parts: dict[str, Part] = {}
        self._listed = -_LIST_SECONDS
        self._rows: dict[Key, Row] = {}  # of the part that is still growing
        self._part: str | None = None
        self._num_written = 0
        self._oldest = 0.0  # when the first row came that is not written

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
            # read-only or full: what is known still serves this process, and the next one scans again
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
