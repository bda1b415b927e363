"""Lines of text files, as columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.jobs.arrow import compute, lengths, strip, to_mask
from mvit_video.jobs.foreign import require_file
from mvit_video.types import AnnotationError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HEAD_BYTES = 4096


@dataclass(frozen=True, eq=False)
class Lines:
    """Non-blank lines of a text file.

    Attributes:
        numbers: line numbers from 1.
        text: stripped lines.
        data: bytes of the file.
        starts: start of each line in `data`.
    """

    file: Path
    numbers: NDArray[np.int64]
    text: pa.Array
    data: bytes
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    def line(self, i: int) -> str:
        """Return the text of a line."""
        return self.text[i].as_py()

    def error(self, i: int, reason: str) -> AnnotationError:
        """Return the error for a line."""
        return AnnotationError(self.file, int(self.numbers[i]), reason)

    def select(self, keep: NDArray[np.bool_]) -> Lines:
        """Return some of the lines."""
        if keep.all():
            return self
        return replace(
            self, numbers=self.numbers[keep], text=self.text.filter(pa.array(keep)), starts=self.starts[keep]
        )

    def below(self, i: int) -> Lines:
        """Return the lines starting with line `i`."""
        return replace(self, numbers=self.numbers[i:], text=self.text[i:], starts=self.starts[i:])


def read_head(file: Path) -> bytes:
    """Return the first bytes of a file."""
    require_file(file)
    try:
        with file.open("rb") as opened:
            return opened.read(_HEAD_BYTES)
    except OSError as error:
        raise AnnotationError(file, 0, f"cannot be read ({error.strerror})") from None


def read_lines(file: Path) -> Lines:
    """Read the lines of a UTF-8 file with any line ends."""
    zero = read_head(file).find(b"\0")  # before reading a large video as a list
    data = b"" if zero >= 0 else file.read_bytes()
    zero = max(zero, data.find(b"\0"))
    if zero >= 0:
        raise AnnotationError(file, 0, f"is not a text file (byte {zero} is zero)")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    start = len(_BYTE_ORDER_MARK) if data.startswith(_BYTE_ORDER_MARK) else 0
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    rest = [len(data)] if len(data) > start and not data.endswith(b"\n") else []
    offsets = np.concatenate([[start], ends, rest]).astype(np.int64)
    raw = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
    try:
        raw.validate(full=True)
    except pa.ArrowInvalid:
        raise AnnotationError(file, 0, f"is not a text file (byte {_first_no_utf8(data)} is not UTF-8)") from None
    text = strip(raw)
    lines = Lines(file, np.arange(1, len(text) + 1), text, data, offsets[:-1])
    return lines.select(lengths(text) > 0)


def without_comments(lines: Lines) -> Lines:
    """Return the lines that do not start with `#`."""
    return lines.select(~to_mask(compute.starts_with(lines.text, "#")))


def below_comments(lines: Lines) -> Lines:
    """Return the lines starting with the first that is not a comment."""
    comments = to_mask(compute.starts_with(lines.text, "#"))
    return lines.below(int(comments.argmin()) if not comments.all() else len(lines))


def _first_no_utf8(data: bytes) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    raise AssertionError("Arrow and Python disagree about UTF-8")
