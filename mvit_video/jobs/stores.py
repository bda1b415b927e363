"""Tar files in folders and at URLs: lists of them, and byte ranges."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from glob import has_magic
from typing import Any, BinaryIO, Literal, NamedTuple, cast

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from mvit_video.jobs.foreign import require_file
from mvit_video.types import AnnotationError

_TAR_URL = re.compile(r"\.tar(\?.*)?$")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_STAMPS = ("ETag", "etag", "LastModified", "last_modified", "updated", "mtime", "created")
_NUM_OPEN_FILES = 64
_HEADER_BLOCK_BYTES = 16 * 1024


class Shard(NamedTuple):
    """Tar file: path or URL, bytes, and a stamp that changes with its content."""

    url: str
    size: int
    stamp: str


def is_url(source: str) -> bool:
    """Return whether a source is a URL."""
    return "://" in source


def file_system(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a path or URL, and the path in it.

    fsspec caches file systems; call this in every process, since network connections do not survive a fork.

    Raises:
        AnnotationError: the protocol is unknown, or its package is missing.
    """
    if not is_url(url):
        return LocalFileSystem(), url
    try:
        return url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise AnnotationError(url, 0, f"cannot be opened ({error})") from None


def local_path(source: str) -> str:
    """Return a `file://` URL as a path; other sources unchanged."""
    if is_url(source):
        system, path = file_system(source)
        if isinstance(system, LocalFileSystem):
            return path
    return source


def expand_braces(pattern: str) -> list[str]:
    """Expand `{000..002}` and `{a,b}` as a shell does; other braces stay."""
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    before, body, after = pattern[: match.start()], match[1], pattern[match.end() :]
    if bounds := _RANGE.fullmatch(body):
        first, last = int(bounds[1]), int(bounds[2])
        is_padded = any(len(bound) > 1 and bound.startswith("0") for bound in bounds.groups())
        width = max(map(len, bounds.groups())) if is_padded else 0
        step = 1 if first <= last else -1
        choices = [str(number).zfill(width) for number in range(first, last + step, step)]
    elif "," in body:
        choices = body.split(",")
    else:
        return [before + match[0] + rest for rest in expand_braces(after)]
    return list(dict.fromkeys(full for choice in choices for full in expand_braces(before + choice + after)))


def list_shards(source: str) -> list[str]:
    """Return the tar files of a folder, a file, a glob or a brace pattern; they may not exist.

    Raises:
        AnnotationError: nothing matches.
    """
    if is_folder(source):
        return _list_folder(source)
    if not is_url(source) and os.path.exists(source):
        return [source]
    names: list[str] = []
    for pattern in expand_braces(source):
        if "*" not in pattern and (is_url(pattern) or not has_magic(pattern)):
            names.append(pattern)
            continue
        found = sorted(_as_url(pattern, entry) for entry in _listing(pattern, "glob"))
        if not found:
            raise AnnotationError(pattern, 0, "no file matches the pattern")
        names += found
    return list(dict.fromkeys(names))


def is_folder(source: str) -> bool:
    """Return whether a source is a folder of shards rather than a shard or pattern."""
    if not is_url(source):
        return os.path.isdir(source)
    # by name, since some servers send a file when asked for a folder
    return not _TAR_URL.search(source)


def _list_folder(folder: str) -> list[str]:
    found = sorted(_as_url(folder, entry) for entry in _listing(folder, "ls") if entry.endswith(".tar"))
    if not found:
        raise AnnotationError(folder, 0, "has no .tar files")
    return found


def _listing(url: str, how: Literal["glob", "ls"]) -> list[str]:
    system, path = file_system(url)
    try:
        entries = system.glob(path) if how == "glob" else system.ls(path, detail=False)
    except FileNotFoundError:
        raise AnnotationError(url, 0, "no such folder of shards") from None
    except Exception as error:  # file systems raise errors of their own
        raise AnnotationError(url, 0, f"cannot be listed ({error})") from None
    return [str(entry) for entry in entries]


def _as_url(source: str, entry: str) -> str:
    return str(file_system(source)[0].unstrip_protocol(entry)) if is_url(source) else entry


def read_file(url: str) -> bytes | None:
    """Return the content of a file; None if it is missing.

    Raises:
        AnnotationError: the file exists, but cannot be read.
    """
    system, path = file_system(url)
    if not is_url(url):
        require_file(path)
    try:
        return cast("bytes", system.cat_file(path))
    except FileNotFoundError:
        return None
    except Exception as error:  # file systems raise errors of their own
        raise AnnotationError(url, 0, f"cannot be read ({error})") from None


def find_shard(url: str) -> Shard:
    """Return a tar file with its size and stamp.

    Raises:
        AnnotationError: the file is missing, is a pipe, or its size is unknown.
    """
    if not is_url(url):
        require_file(url)
    try:
        if not is_url(url):
            status = os.stat(url)
            return Shard(url, status.st_size, str(status.st_mtime_ns))
        system, path = file_system(url)
        info = cast("dict[str, Any]", system.info(path))
    except FileNotFoundError:
        raise AnnotationError(url, 0, "no such shard") from None
    except OSError as error:
        raise AnnotationError(url, 0, f"cannot be read ({error.strerror or error})") from None
    if info.get("size") is None:
        raise AnnotationError(url, 0, "its server does not report its size; copy the shard, or use another server")
    return Shard(url, int(info["size"]), stamp_of(info))


def stamp_of(info: Mapping[str, Any]) -> str:
    """Return a text of a file system that changes with the content of a file; empty if there is none."""
    return str(next((info[key] for key in _STAMPS if info.get(key)), ""))


@contextmanager
def open_headers(shard: Shard) -> Iterator[BinaryIO]:
    """Open a shard for small reads."""
    if not is_url(shard.url):
        with open(shard.url, "rb") as file:
            yield file
        return
    system, path = file_system(shard.url)
    with system.open(path, "rb", block_size=_HEADER_BLOCK_BYTES, cache_type="readahead") as file:
        yield cast("BinaryIO", file)


def read_range(shard: Shard, offset: int, size: int) -> bytes:
    """Return bytes of a shard.

    Raises:
        EOFError: the size of the shard has changed since it was indexed.
    """
    if is_url(shard.url):
        system, path = file_system(shard.url)
        data = cast("bytes", system.cat_file(path, start=offset, end=offset + size))
    else:
        data = _open_file(shard, os.getpid()).read(offset, size)
    if len(data) != size:
        raise EOFError(f"{len(data)} of {size} bytes at byte {offset}; it has changed since it was indexed")
    return data


class _OpenFile:
    """Local file that is closed when nothing refers to it."""

    def __init__(self, shard: Shard) -> None:
        self._descriptor = os.open(shard.url, os.O_RDONLY)
        size = os.fstat(self._descriptor).st_size
        if size != shard.size:
            raise EOFError(f"it has {size} bytes, {shard.size} when it was indexed")

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        while 0 < len(data) < size:  # one call reads at most 2 GiB
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


@lru_cache(maxsize=_NUM_OPEN_FILES)
def _open_file(shard: Shard, process: int) -> _OpenFile:
    """Keep files of this process open between reads; a thread that reads keeps its file open."""
    del process  # part of the key
    return _OpenFile(shard)
