"""Where the members of a tar file lie, from its headers alone; the data in between is skipped.

The file is not trusted: nothing is extracted, and every size and offset is held against the length of the file.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Any, BinaryIO, NamedTuple, cast

from mvit_video.jobs.arrow import is_utf8
from mvit_video.types import AnnotationError

BLOCK_BYTES = tarfile.BLOCKSIZE

_MAX_HEADER_BYTES = 2**16
# tarfile looks for numbers in extended headers, which takes the square of the length of a row of digits
_MANY_DIGITS = re.compile(rb"[0-9]{128}")
_MAX_TEXT_BYTES = 2**24
_PACKERS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Member(NamedTuple):
    """A file in a tar.

    Attributes:
        offset: of its first byte in the tar.
        size: bytes.
        text: what it holds, where that was wanted.
    """

    name: str
    offset: int
    size: int
    text: bytes | None


def read_members(file: BinaryIO, name: str, size: int, is_text: Callable[[str], bool]) -> Iterator[Member]:
    """The plain files of a tar; folders, links and the like are passed over.

    Args:
        file: the tar, opened for reading; only headers and texts are read.
        name: what to call the tar in messages.
        size: bytes of the tar.
        is_text: by a member's name, whether its content is wanted.

    Raises:
        AnnotationError: names the tar and the byte at which it is damaged or cut off.
    """
    start = file.read(8)
    for magic, packer in _PACKERS.items():
        if start.startswith(magic):
            raise AnnotationError(name, 0, f"is compressed with {packer}; shards are plain tar files, decompress it")
    file.seek(0)
    headers = _Headers(file, name, size)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", headers), mode="r:") as tar:
            while (found := tar.next()) is not None:
                cast("Any", tar).members.clear()  # else it keeps them all
                headers.begin(found.offset)
                if not 0 <= found.size <= size - found.offset_data:
                    raise AnnotationError(
                        name, 0, f"is cut off: {found.name!r} at byte {found.offset} says it has {found.size} bytes, "
                        f"the file ends at byte {size}"
                    )  # fmt: skip
                if found.issparse():
                    raise AnnotationError(name, 0, f"{found.name!r} at byte {found.offset} is sparse; pack it whole")
                if not found.isreg():
                    continue
                if not is_utf8(found.name):
                    raise AnnotationError(
                        name, 0, f"the name {os.fsencode(found.name)!r} at byte {found.offset} is no UTF-8; rename it"
                    )
                text = _read_text(file, name, found) if is_text(found.name) else None
                yield Member(found.name, found.offset_data, found.size, text)
            headers.begin(end := tar.offset)
            headers.seek(end)
            if any(headers.read(BLOCK_BYTES)):
                raise AnnotationError(name, 0, f"is damaged at byte {end}, where a header should be")
    # tarfile lets errors of its parsers through for some headers
    except (tarfile.TarError, ValueError, ArithmeticError, LookupError, TypeError, RecursionError) as error:
        reason = error if isinstance(error, tarfile.TarError) else "a header that means nothing"
        raise AnnotationError(name, 0, f"is damaged at byte {headers.offset}, or no tar file ({reason})") from None


def _read_text(file: BinaryIO, name: str, found: tarfile.TarInfo) -> bytes:
    if found.size > _MAX_TEXT_BYTES:
        raise AnnotationError(
            name, 0, f"{found.name!r} at byte {found.offset} has {found.size} bytes, too many for a label"
        )
    file.seek(found.offset_data)
    return file.read(found.size)


class _Headers:
    """What tarfile may read: within the file, and no more than a header has, whatever sizes the header claims."""

    def __init__(self, file: BinaryIO, name: str, size: int) -> None:
        self._file, self._name, self._size = file, name, size
        self._budget = _MAX_HEADER_BYTES
        self.offset = 0

    def begin(self, offset: int) -> None:
        """The header at an offset is done, or about to be read."""
        self.offset, self._budget = offset, _MAX_HEADER_BYTES

    def read(self, num_bytes: int) -> bytes:
        self._budget -= num_bytes
        if num_bytes < 0 or self._budget < 0:
            raise tarfile.ReadError(f"a header of more than {_MAX_HEADER_BYTES} bytes")
        position = self.tell()
        if position + num_bytes > self._size:
            raise AnnotationError(
                self._name, 0, f"is cut off at byte {self._size}, without the mark at the end of a tar file"
            )
        data = self._file.read(num_bytes)
        if _MANY_DIGITS.search(data) and num_bytes > BLOCK_BYTES:
            raise tarfile.ReadError("a header with a number of more than 128 digits")
        return data

    def seek(self, position: int) -> int:
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()
