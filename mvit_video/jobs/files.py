"""Files that are there complete or not at all."""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from mvit_video.types import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_UNFINISHED = re.compile(r"\..+\.unfinished", re.DOTALL)
# readable in a listing, and short enough for every file system however long the name of the file is
_STEM_BYTES = 100
_NAME_BYTES = 255
_HASH_DIGITS = 12
_ABANDONED_SECONDS = 3600.0
_NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def atomic_write(path: Path, *, backup: Path | None = None) -> Iterator[Path]:
    """Give a temporary file beside `path`; when the block ends without an error it replaces `path`.

    File and folder are flushed to the disk, so that after a crash of the machine the file is the old one or the
    complete new one. Temporary files of processes that were killed are removed the first time that a process writes to
    a folder.

    Args:
        backup: where the file that is replaced goes; it is removed if None.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished_once(path.parent, os.getpid())
    unfinished, descriptor = _create(path)
    try:
        yield unfinished
        move_into_place(unfinished, path, backup=backup)
    finally:
        with suppress(OSError):  # it is there no more, or the disk fails, which the block has met too
            unfinished.unlink()
        os.close(descriptor)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Give a temporary folder in `parent`, which is removed at the end; those that killed processes left go first."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(parent)
    while True:
        folder = parent / f".{name}.{secrets.token_hex(4)}.unfinished"
        folder.mkdir()
        descriptor = os.open(folder, os.O_RDONLY)
        if lock(descriptor) is not False and os.path.isdir(folder):
            break
        os.close(descriptor)  # another process took it for abandoned before it was locked
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def move_into_place(finished: Path, path: Path, *, backup: Path | None = None) -> None:
    """Flush a file or folder to the disk and give it its name on the same disk; a file of that name is replaced."""
    _flush(finished)
    if backup is not None:
        with suppress(FileNotFoundError):
            os.replace(path, backup)
    os.replace(finished, path)
    with suppress(PermissionError):  # of a folder that may be written but not read
        _flush(path.parent)


def fitting_name(stem: str, ending: str) -> str:
    """`stem` and `ending` as the name of a file; a stem too long for file systems is cut, with a hash of it behind."""
    room = _NAME_BYTES - len(os.fsencode(ending))
    name = os.fsencode(stem)
    if len(name) > room:
        mark = f"-{hashlib.sha256(name).hexdigest()[:_HASH_DIGITS]}"
        stem = name[: room - len(mark)].decode(errors="ignore") + mark
    return stem + ending


def is_unfinished(name: str) -> bool:
    """Whether a file of this name is a temporary one of `atomic_write`."""
    return _UNFINISHED.fullmatch(name) is not None


def require_writable(path: Path, argument: str) -> None:
    """Refuse a file that cannot be written, before the work whose result it is to hold.

    Args:
        argument: by which the user named it, such as `--out`.

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
    """Remove the temporary files and folders that killed processes left; those that are being written stay."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if is_unfinished(entry.name) and not entry.is_symlink():
                with suppress(OSError):
                    _remove_abandoned(entry.path, is_folder=entry.is_dir())


@lru_cache
def _remove_unfinished_once(folder: Path, process: int) -> None:
    """A folder may hold very many files, so that a process lists it once."""
    del process  # part of the key
    remove_unfinished(folder)


def _create(path: Path) -> tuple[Path, int]:
    """A new empty file, and its descriptor, whose lock says that the file is being written."""
    stem = os.fsencode(path.name)[:_STEM_BYTES].decode(errors="ignore")
    while True:
        unfinished = path.with_name(f".{stem}.{secrets.token_hex(4)}.unfinished")
        with suppress(FileExistsError):
            descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            is_locked = lock(descriptor)
            if is_locked is not False and os.fstat(descriptor).st_nlink:
                return unfinished, descriptor
            os.close(descriptor)  # another process took it for abandoned before it was locked


def _remove_abandoned(path: str, *, is_folder: bool) -> None:
    """Remove a temporary file or folder that no process has locked; where there are no locks, one that is old."""
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
    """Whether this process now holds the lock of an open file; None where the file system has no locks."""
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
    """Flush a file, or the names in a folder, to the disk, where the file system can."""
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
    """Bytes of a file and the time of its last change; two None when it cannot be found."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return found.st_size, found.st_mtime_ns


def nearest(path: Path) -> Path | None:
    """Return the file or folder beside a missing one whose name is most like its name."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return None
    near = difflib.get_close_matches(path.name, names, n=1)
    return path.parent / near[0] if near else None
