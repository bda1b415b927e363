"""What the first bytes of a file and the boxes of an MP4 file claim, read before any library sees them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from mvit_video.data.readers.container import Translated
from mvit_video.data.readers.source import Source
from mvit_video.types import VideoDecodeError

_MP4_FIRST = {b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp"}
_EBML = b"\x1a\x45\xdf\xa3"
# boxes that hold boxes, as FFmpeg reads them
_PARENTS = {
    b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"udta", b"mvex", b"dinf", b"tref", b"wave",
    b"sinf", b"schi", b"strk", b"strd",
}  # fmt: skip
# FFmpeg takes 24 bytes for each; 77 hours at 30 frames per second
_MAX_SAMPLES = 2**23
_MAX_HEADER_BYTES = 2**26
_MAX_BOXES = 2**22
_MAX_DEPTH = 16
_EDIT_BYTES = 12


def container_by_signature(head: bytes) -> Literal["mov", "matroska", "avi"] | None:
    """Recognise a container by the first twelve bytes of a file; None where it is none of those known here."""
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
    """Refuse an MP4 file whose header counts more samples than it can hold; FFmpeg makes room before it looks.

    Raises:
        VideoDecodeError: it counts more samples than bytes, or so many, edits of them included, that their index takes
            too much memory.
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
    """What the boxes of a track say of its samples; fragments count for the last one."""

    num_samples: int = 0
    num_chunks: int = 0
    num_edits: int = 0
    is_sound: bool = False
    is_even: bool = False

    @property
    def num_indexed(self) -> int:
        """Entries that FFmpeg's index may have: every edit may show all samples again.

        Sound whose samples are one value per channel is indexed chunk by chunk.
        """
        return (self.num_chunks if self.is_sound and self.is_even else self.num_samples) * max(self.num_edits, 1)

    def note(self, kind: bytes, length: int, content: bytes) -> None:
        """Take in the first bytes of a box, behind its name."""
        if kind in (b"stsz", b"stz2"):
            self.num_samples += int.from_bytes(content[8:12], "big")
        elif kind == b"trun":
            self.num_samples += int.from_bytes(content[4:8], "big")
        elif kind == b"iinf":  # items are to a still image what samples are to a track
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
    """Boxes of a range of a file: name, length and first bytes of the content; those inside another one follow it."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        length, kind, behind = int.from_bytes(header[:4], "big"), header[4:8], start + 8
        if length == 1:
            length, behind = int.from_bytes(header[8:16], "big"), start + 16
        elif length == 0:  # up to the end of the file
            length = end - start
        if length < behind - start:  # no box
            return
        stop = min(start + length, end)
        file.seek(behind)
        yield kind, stop - behind, file.read(min(stop - behind, 16))
        if kind in _PARENTS and depth < _MAX_DEPTH:
            yield from _walk(file, behind, stop, depth + 1)
        elif kind == b"meta" and depth < _MAX_DEPTH:  # a version precedes what it holds
            yield from _walk(file, behind + 4, stop, depth + 1)
        elif kind == b"cmov" and depth < _MAX_DEPTH:
            header = _decompressed(file, behind, stop)
            yield from _walk(io.BytesIO(header), 0, len(header), depth + 1)
        start += length


def _decompressed(file: BinaryIO, start: int, stop: int) -> bytes:
    """The header that a box `cmov` holds: `dcom`, then `cmvd` with its length and the compressed bytes."""
    file.seek(start)
    content = file.read(min(stop - start, _MAX_HEADER_BYTES))
    begin = content.find(b"cmvd")
    try:
        return zlib.decompressobj().decompress(content[begin + 8 :], _MAX_HEADER_BYTES) if begin >= 0 else b""
    except zlib.error:
        return b""


def _opened(source: Source) -> BinaryIO:
    return open(source.path, "rb") if source.data is None else io.BytesIO(source.data)
