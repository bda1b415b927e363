"""Folders of atomic files, on a disk or at a URL."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Sequence
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
