"""Writer of tar files in the layout of WebDataset, each atomic."""

from __future__ import annotations

import io
import os
import posixpath
import stat
import tarfile
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from mvit_video.data.shards.samples import BLOCK_BYTES
from mvit_video.jobs import is_unfinished, move_into_place, scratch_folder
from mvit_video.jobs.stores import file_system, is_url
from mvit_video.types import ConfigError

_COPY_BYTES = 2**20
_END_BYTES = 2 * BLOCK_BYTES
DAMAGED = "damaged"


class SourceFailed(Exception):
    """A video cannot be read completely; the text says why, `kind` is missing, empty or unreadable."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        super().__init__(reason)


class OutputFolder:
    """Folder or URL for atomic files; a context manager that has a folder for drafts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._drafts: Path | None = None
        self._open = ExitStack()

    def __enter__(self) -> OutputFolder:
        if is_url(self.url):
            self._drafts = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
            return self
        try:
            # on the same disk, so that drafts can be renamed
            self._drafts = self._open.enter_context(scratch_folder(Path(self.url), "pack"))
        except OSError as error:
            raise ConfigError(f"{self.url}: cannot be written ({error.strerror}); give another folder") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def draft(self, name: str) -> Path:
        """Return where to write a file before it is placed."""
        assert self._drafts is not None
        return self._drafts / name

    def place(self, name: str) -> str:
        """Move a finished draft into the folder; return its URL."""
        draft, url = self.draft(name), posixpath.join(self.url, name)
        if is_url(url):
            system, path = file_system(url)
            system.put_file(str(draft), path)
            if system.size(path) != draft.stat().st_size:
                raise OSError(f"{name} is incomplete after the upload")
            draft.unlink()
        else:
            move_into_place(draft, Path(url))
        return url

    def names(self) -> list[str]:
        """Return the sorted names of files, without temporary ones."""
        system, path = file_system(self.url)
        try:
            entries = [str(entry).strip("/") for entry in system.ls(path, detail=False)]
        except FileNotFoundError:
            return []
        found = (posixpath.basename(entry) for entry in entries if entry != path.strip("/"))
        return sorted(name for name in found if not is_unfinished(name))

    def quarantine(self, name: str) -> str:
        """Move a damaged file to the folder `damaged` in this one; return its name."""
        system, path = file_system(self.url)
        system.makedirs(posixpath.join(path, DAMAGED), exist_ok=True)
        system.mv(posixpath.join(path, name), posixpath.join(path, DAMAGED, name))
        return name


class ShardWriter:
    """Tar that is being written; `num_videos` are in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self.num_videos = 0

    def size_with(self, texts: dict[str, bytes], size: int) -> int:
        """Return the size of the tar with one more sample."""
        members = [*map(len, texts.values()), size]
        return self._file.tell() + sum(BLOCK_BYTES + member + -member % BLOCK_BYTES for member in members) + _END_BYTES

    def add(self, key: str, texts: dict[str, bytes], extension: str, video: BinaryIO, size: int) -> int:
        """Add a sample, `texts` by extension and then the video; return the first byte of the video in the tar.

        Raises:
            SourceFailed: the video cannot be read; the sample is removed.
        """
        start = self._file.tell()
        for text_extension, text in texts.items():
            self._header(f"{key}.{text_extension}", len(text))
            self._file.write(text)
            self._pad()
        self._header(f"{key}.{extension}", size)
        offset = self._file.tell()
        try:
            self._copy(video, size)
        except SourceFailed:
            self._file.seek(start)
            self._file.truncate()
            raise
        self._pad()
        self.num_videos += 1
        return offset

    def close(self) -> None:
        """End the tar."""
        self._file.write(bytes(_END_BYTES))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Close the incomplete file."""
        self._file.close()

    def _header(self, name: str, size: int) -> None:
        header = tarfile.TarInfo(name)
        header.size, header.mode = size, 0o644
        # without times and owners, the same videos give the same bytes
        self._file.write(header.tobuf(tarfile.GNU_FORMAT))

    def _copy(self, video: BinaryIO, size: int) -> None:
        left = size
        while left:
            try:
                chunk = video.read(min(_COPY_BYTES, left))
            except OSError as error:
                raise SourceFailed("unreadable", error.strerror or str(error)) from error
            if not chunk:
                raise SourceFailed("unreadable", f"ends after {size - left} of {size} bytes")
            self._file.write(chunk)
            left -= len(chunk)

    def _pad(self) -> None:
        self._file.write(bytes(-self._file.tell() % BLOCK_BYTES))


def open_source(source: Path | bytes) -> tuple[BinaryIO, int]:
    """Open a video for reading; return it and its size in bytes."""
    if isinstance(source, bytes):
        file, size = io.BytesIO(source), len(source)
    else:
        try:
            status = source.stat()
            if not stat.S_ISREG(status.st_mode):
                raise SourceFailed("unreadable", "is not a file")
            file, size = source.open("rb"), status.st_size
        except FileNotFoundError:
            raise SourceFailed("missing", "no such file") from None
        except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
            raise SourceFailed("unreadable", getattr(error, "strerror", None) or str(error)) from None
    if not size:
        file.close()
        raise SourceFailed("empty", "is an empty file")
    return file, size
