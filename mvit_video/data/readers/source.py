"""Sources of videos, checked before any decoder opens them."""

from __future__ import annotations

import io
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from av.error import ArgumentError, ExitError, FFmpegError

from mvit_video.types import VideoDecodeError

_MP4_FIRST = {b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp"}
_EBML = b"\x1a\x45\xdf\xa3"
# MP4 boxes that contain boxes, for FFmpeg
_PARENTS = {
    b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"udta", b"mvex", b"dinf", b"tref", b"wave",
    b"sinf", b"schi", b"strk", b"strd",
}  # fmt: skip
# FFmpeg allocates 24 bytes for each; 77 hours at 30 frames per second
_MAX_SAMPLES = 2**23
_MAX_HEADER_BYTES = 2**26
_MAX_BOXES = 2**22
_MAX_DEPTH = 16
_EDIT_BYTES = 12


@dataclass(frozen=True)
class Source:
    """File of a video, or its bytes with a name for messages."""

    name: str
    data: bytes | None = None

    @property
    def path(self) -> str:
        """Absolute path, which FFmpeg cannot mistake for a URL such as `concat:a|b`."""
        return os.path.abspath(self.name)

    def num_bytes(self, status: os.stat_result | None) -> int:
        """Return the size, given what `check_source` returned."""
        return status.st_size if status else len(self.data or b"")

    def handle(self) -> str | io.BytesIO:
        """Return the object that PyAV opens."""
        return self.path if self.data is None else io.BytesIO(self.data)


def as_source(source: object) -> Source:
    """Return the source for a path, bytes or a binary file."""
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
            "a video must be a path, bytes or a file opened in binary mode, "
            f"got an object of type {type(source).__name__}"
        )
    return Source(str(getattr(source, "name", "<binary file>")), data)


def check_source(source: Source) -> os.stat_result | None:
    """Return the status of a file, None for bytes; pipes and devices are refused unopened, since reading may block.

    Raises:
        VideoDecodeError: the file is missing, empty, or not a regular file.
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


class Translated:
    """Context that raises PyAV's errors as `VideoDecodeError`.

    A class, because Python 3.10 keeps a generator's context, and its open file, in a reference cycle if the generator
    is dropped halfway.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        reason = None if error is None else _reason(error)
        if reason is not None:
            raise VideoDecodeError(self._source.name, reason) from error


def _reason(error: BaseException) -> str | None:
    """Return why a video cannot be read; None for errors in the code."""
    if isinstance(error, ExitError):
        return "could not be read in reasonable time"
    if isinstance(error, ArgumentError):
        return "cannot be decoded (not a supported video container)"
    if isinstance(error, FFmpegError):
        return f"cannot be decoded ({error.strerror or error})"
    if isinstance(error, (OSError, EOFError, MemoryError, LookupError, ValueError)):
        return f"cannot be read ({error or type(error).__name__})"
    return None


def container_by_signature(head: bytes) -> Literal["mov", "matroska", "avi"] | None:
    """Recognise a container by the first twelve bytes of a file; None for other containers."""
    if head[4:8] in _MP4_FIRST:
        return "mov"
    if head[:4] == _EBML:
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return None


def read_head(source: Source) -> bytes:
    """Return the first twelve bytes of a source."""
    with Translated(source), _opened(source) as file:
        return file.read(12)


def check_claims(source: Source, size_bytes: int) -> None:
    """Refuse an MP4 file whose header counts too many samples: FFmpeg allocates memory before it checks them.

    Raises:
        VideoDecodeError: the header counts more samples than the file has bytes, or more, with edits, than
            `_MAX_SAMPLES`.
    """
    tracks = [_Track()]
    with Translated(source), _opened(source) as file:
        for number, (kind, length, content) in enumerate(_walk(file, 0, size_bytes, 0)):
            if number == _MAX_BOXES:
                raise VideoDecodeError(source.name, f"holds more than {_MAX_BOXES} boxes")
            if kind == b"trak":
                tracks.append(_Track())
            tracks[-1].note(kind, length, content)
    num_samples = sum(track.num_samples for track in tracks)
    if num_samples > size_bytes:
        raise VideoDecodeError(source.name, f"its header counts {num_samples} samples, it has {size_bytes} bytes")
    num_indexed = sum(track.num_indexed for track in tracks)
    if num_indexed > _MAX_SAMPLES:
        raise VideoDecodeError(source.name, f"its header counts {num_indexed} samples, more than {_MAX_SAMPLES}")


@dataclass
class _Track:
    """Samples that the boxes of a track claim; fragments count for the last track."""

    num_samples: int = 0
    num_chunks: int = 0
    num_edits: int = 0
    is_sound: bool = False
    is_even: bool = False

    @property
    def num_indexed(self) -> int:
        """Entries that FFmpeg's index may have: each edit may repeat all samples; raw sound is indexed by chunks."""
        return (self.num_chunks if self.is_sound and self.is_even else self.num_samples) * max(self.num_edits, 1)

    def note(self, kind: bytes, length: int, content: bytes) -> None:
        """Read the first bytes of a box after its name."""
        if kind in (b"stsz", b"stz2"):
            self.num_samples += int.from_bytes(content[8:12], "big")
        elif kind == b"trun":
            self.num_samples += int.from_bytes(content[4:8], "big")
        elif kind == b"iinf":  # items of a still image are like samples of a track
            self.num_samples += int.from_bytes(content[4 : 8 if content[:1] > b"\0" else 6], "big")
        elif kind == b"iloc":
            self.num_samples += int.from_bytes(content[6 : 10 if content[:1] > b"\1" else 8], "big")
        elif kind in (b"stco", b"co64"):
            self.num_chunks += int.from_bytes(content[4:8], "big")
        elif kind == b"elst":
            self.num_edits += min(int.from_bytes(content[4:8], "big"), length // _EDIT_BYTES)
        elif kind == b"hdlr":
            self.is_sound |= content[8:12] == b"soun"
        elif kind == b"stts":
            self.is_even = content[4:8] + content[12:16] == b"\0\0\0\1" * 2


def _walk(file: BinaryIO, start: int, end: int, depth: int) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield name, length and first bytes of each box in a range of a file; nested boxes follow their parent."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        length, kind, behind = int.from_bytes(header[:4], "big"), header[4:8], start + 8
        if length == 1:
            length, behind = int.from_bytes(header[8:16], "big"), start + 16
        elif length == 0:  # to the end of the file
            length = end - start
        if length < behind - start:  # not a box
            return
        stop = min(start + length, end)
        file.seek(behind)
        yield kind, stop - behind, file.read(min(stop - behind, 16))
        if kind in _PARENTS and depth < _MAX_DEPTH:
            yield from _walk(file, behind, stop, depth + 1)
        elif kind == b"meta" and depth < _MAX_DEPTH:  # a version precedes its boxes
            yield from _walk(file, behind + 4, stop, depth + 1)
        elif kind == b"cmov" and depth < _MAX_DEPTH:
            header = _decompressed(file, behind, stop)
            yield from _walk(io.BytesIO(header), 0, len(header), depth + 1)
        start += length


def _decompressed(file: BinaryIO, start: int, stop: int) -> bytes:
    """Read the compressed header in a box `cmov`: `dcom`, then `cmvd` with its length and the bytes."""
    file.seek(start)
    content = file.read(min(stop - start, _MAX_HEADER_BYTES))
    begin = content.find(b"cmvd")
    try:
        return zlib.decompressobj().decompress(content[begin + 8 :], _MAX_HEADER_BYTES) if begin >= 0 else b""
    except zlib.error:
        return b""


def _opened(source: Source) -> BinaryIO:
    return open(source.path, "rb") if source.data is None else io.BytesIO(source.data)
