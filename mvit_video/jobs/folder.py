"""Folders of files that are there whole or not at all, on a disk or at a URL."""

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
    """A folder at a path or URL, made when the first file is written to it.

    Object stores show an object when all of it has arrived, so that there too a file is whole or absent. Others, such
    as `ftp://`, may show a part of one.

    Attributes:
        path: of a folder of this machine; None of a URL.

    Raises:
        ConfigError: the URL's protocol is unknown, or its package is missing.
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
        return self.place  # it stands wherever a path or URL may

    def __truediv__(self, name: str) -> Folder:
        return Folder(posixpath.join(self.place, name))

    def names(self, pattern: str) -> list[str]:
        """Files that fit a pattern, in the order of their names; none where there is no folder.

        Folders, pipes and links to nothing are no files.
        """
        self._system.invalidate_cache(self._root)  # others may have written since
        found = self._system.glob(posixpath.join(_escape(self._root), pattern))
        names = sorted(posixpath.basename(str(entry)) for entry in found)
        return [name for name in names if self.path is None or (self.path / name).is_file()]

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return cast("int", self._system.size(self._file(name)))

    def read(self, name: str) -> bytes | None:
        """A file; None where there is none.

        Raises:
            AnnotationError: it is a folder, or a pipe, which may never end.
        """
        if self.path is not None:
            require_file(self.path / name)
        try:
            return cast("bytes", self._system.cat_file(self._file(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        """Writes a file anew, or in place of an older one."""
        if self.path is None:
            self._system.pipe_file(self._file(name), bytes(data))
            return
        with atomic_write(self.path / name) as unfinished:
            unfinished.write_bytes(data)

    def remove(self, name: str) -> None:
        """Removes a file."""
        self._system.rm_file(self._file(name))

    def entries(self) -> list[str]:
        """Names of all files and folders in it, sorted; none where there is no folder."""
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
        """Move a file that cannot be read to the folder `damaged` beside this one; return where it is now."""
        parent, own = posixpath.split(self.place.rstrip("/"))
        place = Folder(posixpath.join(parent, "damaged", own, posixpath.dirname(name)))
        kept = posixpath.basename(name)
        if kept in place.entries():  # of an earlier time
            kept += f".{time.time_ns()}"
        self._system.makedirs(place._root, exist_ok=True)
        self._system.mv(self._file(name), place._file(kept))
        return str(place / kept)

    def remove_unfinished(self) -> None:
        """Remove the temporary files that killed processes left; object stores have none."""
        if self.path is not None:
            remove_unfinished(self.path)

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet file, or some columns of it, of which then only those are fetched."""
        file = cast("BinaryIO", self._system.open(self._file(name), "rb"))
        with file, parquet.ParquetFile(file) as source:
            return source.read(columns=None if columns is None else list(columns))

    def write_table(self, name: str, rows: pa.Table, **options: Any) -> None:
        """Writes a Parquet file, made in memory first.

        Args:
            options: of `pyarrow.parquet.write_table`.
        """
        buffer = pa.BufferOutputStream()
        parquet.write_table(rows, buffer, **options)
        self.write(name, buffer.getvalue())

    def _file(self, name: str) -> str:
        return posixpath.join(self._root, name)


def _escape(path: str) -> str:
    """A path in which no character stands for others."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)
