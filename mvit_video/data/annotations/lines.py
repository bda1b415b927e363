"""Lines of text files, and lists of `path label` lines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.table.files import SUFFIX_PATTERN
from mvit_video.data.table.labels import NUMBER
from mvit_video.data.table.rows import Rows
from mvit_video.jobs.arrow import compute, first, in_order, lengths, matches, split_last, strip, to_mask
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


_QUOTED_PATHS = [rf"^{quote}(?P<path>.+?){quote}[\s,]+(?P<label>\S.*)$" for quote in "\"'"]
_VIDEO_AND_LIST = rf"^(?P<path>.*{SUFFIX_PATTERN})[ ,]+(?P<label>\[.*\])$"
_VIDEO_AND_SEVERAL_LABELS = rf"{SUFFIX_PATTERN} +[0-9]+(,[0-9]+)+$"
_LAST_MARK_IS_COMMA = r",[^, ]*$"
_CHUNK = 262_144  # lines; splitting needs several times their memory
_VIDEO_AND_MORE = rf"{SUFFIX_PATTERN}[\s,]"
_ENDS_IN_VIDEO = rf"{SUFFIX_PATTERN}$"
_LABEL_IS_VIDEO = rf"{SUFFIX_PATTERN}[\"']?$"
_HEADERS = ({"path", "label"}, {"path", "labels"})
# a line with a path and a label from these is a header
_HEADER_WORDS = [
    {"path", "paths", "file", "filename", "file_name", "filepath", "file_path", "name", "video", "video_path", "clip"},
    {"label", "labels", "class", "class_id", "class_name", "category", "action", "target"},
]


def read_list(lines: Lines) -> Rows:
    """Read lines with a path and a label, separated by a tab, a comma or blanks.

    The label is the last field. After the suffix of a video or a tab, numbers separated by commas and lists in brackets
    are several labels. A first line `path label` is a header.
    """
    lines = without_comments(lines)
    if len(lines) and (names := lines.line(0).lower().split()) and set(names) in _HEADERS:
        if names[0] != "path":
            raise lines.error(0, f"the header {lines.line(0)!r} puts the label first; write `path label`, or CSV")
        lines = lines.below(1)
    if not len(lines):
        return Rows(lines.file, lines.numbers, lines.text, lines.text)
    parts = [_split(lines.text[start : start + _CHUNK]) for start in range(0, len(lines), _CHUNK)]
    paths, labels = (pa.concat_arrays([part[i] for part in parts]) for i in range(2))
    is_quoted = np.concatenate([part[2] for part in parts])
    bad = first((lengths(paths) == 0) | (lengths(labels) == 0) | matches(labels, _LABEL_IS_VIDEO))
    if bad is not None:
        raise lines.error(bad, f"expected `path label`, got {lines.line(bad)!r}")
    is_video = matches(paths, _ENDS_IN_VIDEO)
    starts_otherwise = not is_video[0] and not matches(lines.text[:1], _VIDEO_AND_MORE)[0] and is_video[1:].all()
    if (len(lines) > 1 and starts_otherwise) or _are_header_words(paths[0].as_py(), labels[0].as_py()):
        raise lines.error(
            0, f"{lines.line(0)!r} looks like a header, not a video and its label; write `path label` or remove it"
        )
    if not is_video.all() or matches(labels, _VIDEO_AND_MORE).any():
        bad = first(~is_quoted & (~is_video & matches(paths, _VIDEO_AND_MORE) | matches(labels, _VIDEO_AND_MORE)))
        if bad is not None:
            raise lines.error(
                bad, f"the path does not end clearly in {lines.line(bad)!r}; put a tab before the label, or write CSV"
            )
    return Rows(lines.file, lines.numbers, paths, labels)


def _are_header_words(path: str, label: str) -> bool:
    return path.lower() in _HEADER_WORDS[0] and label.lower() in _HEADER_WORDS[1]


def read_paths(lines: Lines) -> Rows | None:
    """Read a list of paths of videos without labels; None if the first line is not one."""
    lines = without_comments(lines)
    text = lines.text
    for quote in "\"'":
        text = compute.replace_substring_regex(text, f"^{quote}(.*){quote}$", r"\1")
    is_video = matches(text, _ENDS_IN_VIDEO)
    if not len(lines) or not is_video[0]:
        return None
    bad = first(~is_video)
    if bad is not None:
        raise lines.error(bad, f"expected the path of a video, as in the first line, got {lines.line(bad)!r}")
    return Rows(lines.file, lines.numbers, text, pa.nulls(len(lines), text.type))


def _split(text: pa.Array) -> tuple[pa.Array, pa.Array, NDArray[np.bool_]]:
    """Return path and label of each line, null for single fields, and whether the path is quoted."""
    left = np.arange(len(text))
    paths: list[tuple[NDArray[np.int64], pa.Array]] = []
    labels: list[tuple[NDArray[np.int64], pa.Array]] = []

    def take(mask: NDArray[np.bool_], split: tuple[pa.Array, pa.Array]) -> None:
        nonlocal left, text
        paths.append((left[mask], split[0]))
        labels.append((left[mask], split[1]))
        left, text = left[~mask], text.filter(pa.array(~mask))

    def take_fields(pattern: str) -> NDArray[np.int64]:
        fields = compute.extract_regex(text, pattern)
        found = to_mask(fields.is_valid())
        places, fields = left[found], fields.filter(pa.array(found))
        take(found, (strip(fields.field("path")), strip(fields.field("label"))))
        return places

    is_quoted = np.zeros(len(text), bool)
    for pattern in _QUOTED_PATHS:
        if to_mask(compute.starts_with(text, pattern[1])).any():
            is_quoted[take_fields(pattern)] = True
    has_tab = to_mask(compute.match_substring(text, "\t"))
    take(has_tab, split_last(text.filter(pa.array(has_tab)), "\t"))
    if to_mask(compute.ends_with(text, "]")).any():
        take_fields(_VIDEO_AND_LIST)
    several = matches(text, _VIDEO_AND_SEVERAL_LABELS)
    take(several, split_last(text.filter(pa.array(several)), " "))
    by_comma = matches(text, _LAST_MARK_IS_COMMA)
    take(by_comma, _without_marks(split_last(text.filter(pa.array(by_comma)), ",")))
    # a label of several words after a comma
    by_comma = to_mask(compute.match_substring(text, ",")) & ~matches(text, rf" {NUMBER}$")
    take(by_comma, split_last(text.filter(pa.array(by_comma)), ","))
    by_blank = to_mask(compute.match_substring(text, " "))
    take(by_blank, _without_marks(split_last(text.filter(pa.array(by_blank)), " ")))
    nothing = pa.nulls(len(left), text.type)
    return in_order([*paths, (left, nothing)]), in_order([*labels, (left, nothing)]), is_quoted


def _without_marks(split: tuple[pa.Array, pa.Array]) -> tuple[pa.Array, pa.Array]:
    """Remove further separators before a number, as in `path, 3`."""
    paths, labels = split
    ends_in_mark = matches(paths, r"[ ,]$") & matches(labels, rf"^{NUMBER}$")
    if ends_in_mark.any():
        trimmed = compute.utf8_rtrim(paths.filter(pa.array(ends_in_mark)), characters=" ,")
        paths = compute.replace_with_mask(paths, pa.array(ends_in_mark), trimmed)
    return paths, labels
