"""Where a video comes from, checked before any decoder sees it."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass

from mvit_video.types import VideoDecodeError


@dataclass(frozen=True)
class Source:
    """Where a video comes from: a file, or bytes with a name for messages."""

    name: str
    data: bytes | None = None

    @property
    def path(self) -> str:
        """What a decoder opens; an absolute path cannot be taken for a URL such as `concat:a|b`."""
        return os.path.abspath(self.name)

    def num_bytes(self, status: os.stat_result | None) -> int:
        """Size, given what `check_source` returned."""
        return status.st_size if status else len(self.data or b"")

    def handle(self) -> str | io.BytesIO:
        """What PyAV opens."""
        return self.path if self.data is None else io.BytesIO(self.data)


def as_source(source: object) -> Source:
    """The source that a user means."""
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        if isinstance(name, str):
            return Source(name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Source("<bytes>", bytes(source))
    read = None if isinstance(source, io.TextIOBase) else getattr(source, "read", None)
    data = read() if callable(read) else None
    if not isinstance(data, bytes):
        raise TypeError(
            "a video is given as a path, as its bytes or as a file opened in binary mode, "
            f"got an object of type {type(source).__name__}"
        )
    return Source(str(getattr(source, "name", "<binary file>")), data)


def check_source(source: Source) -> os.stat_result | None:
    """What the file system says of a file, None of bytes; a pipe or a device is refused unopened, since it may block.

    Raises:
        VideoDecodeError: it is missing, empty, or not a regular file.
    """
    if source.data is not None:
        if not source.data:
            raise VideoDecodeError(source.name, "is empty")
        return None
    try:
        status = os.stat(source.name)
    except (FileNotFoundError, NotADirectoryError):
        raise VideoDecodeError(source.name, "no such file") from None
    except (OSError, ValueError) as error:
        raise VideoDecodeError(source.name, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoDecodeError(source.name, "is a folder, not a video file")
    if not stat.S_ISREG(status.st_mode):
        raise VideoDecodeError(source.name, "is a pipe, a socket or a device, not a video file")
    if status.st_size == 0:
        raise VideoDecodeError(source.name, "is an empty file")
    return status
