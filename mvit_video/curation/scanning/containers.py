"""Length of a file by its container, to find truncated files."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from mvit_video.data.readers.source import container_by_signature

# required boxes; others are padding or remains of editors
_MP4_NEEDED = {b"mdat", b"moov", b"moof"}
_SEGMENT = b"\x18\x53\x80\x67"


def missing_bytes(path: Path) -> int:
    """Return the bytes missing at the end of an MP4, Matroska or AVI file; 0 if it is complete or unknown."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        kind = container_by_signature(head)
        if kind == "mov":
            end = _mp4_end(file, size)
        elif kind == "matroska":
            end = _matroska_end(file)
        elif kind == "avi":
            end = 8 + int.from_bytes(head[4:8], "little")
        else:
            end = 0
    return max(0, end - size)


def _mp4_end(file: BinaryIO, size: int) -> int:
    """Return the end of the last required box."""
    start = end = 0
    while start < size:
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            break
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0 is to the end of the file
            break
        start += length
        if header[4:8] in _MP4_NEEDED:
            end = start
    return end


def _matroska_end(file: BinaryIO) -> int:
    """Return the end of the segment; 0 if its length is unknown, as in a stream that was not closed."""
    file.seek(4)
    length = _ebml_number(file)
    if length is None:
        return 0
    file.seek(length, 1)
    if file.read(4) != _SEGMENT:
        return 0
    length = _ebml_number(file)
    return 0 if length is None else file.tell() + length


def _ebml_number(file: BinaryIO) -> int | None:
    """Read a number whose leading zero bits give its bytes; None if it is all ones or missing."""
    first = file.read(1)
    if not first or first == b"\0":
        return None
    num_more = 8 - first[0].bit_length()
    rest = file.read(num_more)
    bits = 7 * (num_more + 1)
    number = int.from_bytes(first + rest, "big") & ((1 << bits) - 1)
    return None if len(rest) < num_more or number == (1 << bits) - 1 else number
