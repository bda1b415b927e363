"""Atomic files, temporary folders, and files of JSON and CSV."""

from __future__ import annotations

import csv
import difflib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from mvit_video.types import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_UNFINISHED = re.compile(r"\..+\.unfinished", re.DOTALL)
# keeps temporary names short enough for every file system
_STEM_BYTES = 100
_NAME_BYTES = 255
_HASH_DIGITS = 12
_ABANDONED_SECONDS = 3600.0
_NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def atomic_write(path: Path, *, backup: Path | None = None) -> Iterator[Path]:
    """Give a temporary file that replaces `path` if the block ends without an error.

    File and folder are flushed to the disk, so that after a crash of the machine the file is the old or the complete
    new one. When a process first writes to a folder, temporary files of killed processes are removed.

    Args:
        backup: new place of the file that is replaced; None removes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished_once(path.parent, os.getpid())
    unfinished, descriptor = _create(path)
    try:
        yield unfinished
        move_into_place(unfinished, path, backup=backup)
    finally:
        with suppress(OSError):  # already moved, or a disk error that the block raised
            unfinished.unlink()
        os.close(descriptor)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Give a temporary folder in `parent` and remove it at the end; those of killed processes are removed first."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(parent)
    while True:
        folder = parent / f".{name}.{secrets.token_hex(4)}.unfinished"
        folder.mkdir()
        descriptor = os.open(folder, os.O_RDONLY)
        if lock(descriptor) is not False and os.path.isdir(folder):
            break
        os.close(descriptor)  # another process removed it before it was locked
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def move_into_place(finished: Path, path: Path, *, backup: Path | None = None) -> None:
    """Flush a file or folder to the disk and rename it on the same disk, replacing a file of that name."""
    _flush(finished)
    if backup is not None:
        with suppress(FileNotFoundError):
            os.replace(path, backup)
    os.replace(finished, path)
    with suppress(PermissionError):  # the folder may be writable but not readable
        _flush(path.parent)


def fitting_name(stem: str, ending: str) -> str:
    """Return `stem` and `ending` as a file name; a long stem is cut and gets a hash."""
    room = _NAME_BYTES - len(os.fsencode(ending))
    name = os.fsencode(stem)
    if len(name) > room:
        mark = f"-{hashlib.sha256(name).hexdigest()[:_HASH_DIGITS]}"
        stem = name[: room - len(mark)].decode(errors="ignore") + mark
    return stem + ending


def is_unfinished(name: str) -> bool:
    """Return whether a name is that of a temporary file of `atomic_write`."""
    return _UNFINISHED.fullmatch(name) is not None


def require_writable(path: Path, argument: str) -> None:
    """Refuse a file that cannot be written, before long work.

    Args:
        argument: argument of the user, such as `--out`.

    Raises:
        ConfigError: says why.
    """
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if path.is_dir():
        reason = "is a folder; give the name of a file in it"
    elif not folder.is_dir():
        reason = f"cannot be written, {folder} is not a folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        reason = f"cannot be written, {folder} allows no new files; choose another folder"
    else:
        return
    raise ConfigError(f"{argument} {path}: {reason}")


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files and folders of killed processes."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if is_unfinished(entry.name) and not entry.is_symlink():
                with suppress(OSError):
                    _remove_abandoned(entry.path, is_folder=entry.is_dir())


@lru_cache
def _remove_unfinished_once(folder: Path, process: int) -> None:
    """Remove temporary files once per process, since listing a large folder is slow."""
    del process  # part of the key
    remove_unfinished(folder)


def _create(path: Path) -> tuple[Path, int]:
    """Create an empty file; return it and its descriptor, whose lock marks it as being written."""
    stem = os.fsencode(path.name)[:_STEM_BYTES].decode(errors="ignore")
    while True:
        unfinished = path.with_name(f".{stem}.{secrets.token_hex(4)}.unfinished")
        with suppress(FileExistsError):
            descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            is_locked = lock(descriptor)
            if is_locked is not False and os.fstat(descriptor).st_nlink:
                return unfinished, descriptor
            os.close(descriptor)  # another process removed it before it was locked


def _remove_abandoned(path: str, *, is_folder: bool) -> None:
    """Remove a temporary file or folder without a lock; on file systems without locks, an old one."""
    descriptor = os.open(path, (os.O_RDONLY if is_folder else os.O_RDWR) | getattr(os, "O_NOFOLLOW", 0))
    try:
        is_abandoned = lock(descriptor)
        if is_abandoned is None:
            is_abandoned = time.time() - os.fstat(descriptor).st_mtime > _ABANDONED_SECONDS
        if is_abandoned and is_folder:
            shutil.rmtree(path)
        elif is_abandoned:
            os.unlink(path)
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> bool | None:
    """Lock an open file; return whether this process holds the lock, None if the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk, if the file system can."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


def size_and_time(path: str) -> tuple[int | None, int | None]:
    """Return the bytes and the modification time of a file; None and None if it is missing."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return found.st_size, found.st_mtime_ns


def nearest(path: Path) -> Path | None:
    """Return the existing file or folder with the most similar name, or None."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return None
    near = difflib.get_close_matches(path.name, names, n=1)
    return path.parent / near[0] if near else None


MAX_BYTES = 2**26


def read_json_object(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a JSON object; NaN and infinity become None.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: the file is not a plain file, too large, not JSON in UTF-8, or not an object.
    """
    if path.exists() and not path.is_file():  # a pipe would block
        raise ValueError("not a plain file")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"larger than {max_bytes} bytes")
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=lambda _: None)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {type(value).__name__}")
    return value


def write_json_object(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object without NaN as indented JSON."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


# a spreadsheet reads a cell that starts with one of these as a formula (OWASP, "CSV Injection")
_FORMULA = tuple("=+-@\t\r\n")


def write_rows(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write rows as CSV in UTF-8; an apostrophe is put before text that a spreadsheet would run."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_harmless(cell) for cell in row] for row in rows)


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
