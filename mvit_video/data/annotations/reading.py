"""From an annotation file to a table."""

from __future__ import annotations

import csv
import os
import re
import shlex
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.annotations.table import VideoTable
from mvit_video.types import AnnotationError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})

_QUOTED_PATH = re.compile(r"""(?P<quote>["'])(?P<path>.+?)(?P=quote)[\s,]+(?P<label>\S.*)""")
_INTEGER_LABEL = re.compile(r"(?P<path>.*\S)[\s,]+(?P<label>-?\d+)")


def load_annotations(source: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> VideoTable:
    """Read an annotation file, or a folder that holds one folder of videos per class.

    A line is a path and a label, separated by a tab, a comma or spaces; the label is the last field, a class number
    or a class name. Quotes around the path are dropped. Blank lines and lines that start with `#` are skipped. Names
    are numbered in sorted order. That the videos exist is found out when they are opened.

    A file with a header that names the columns `path` and `label`, or a `.csv` file with a comma in its first line,
    follows the rules of CSV: other columns are left aside, and a line that starts with `#` is a video.

    Args:
        root: folder that relative paths start from; None is the folder of the file. A folder of classes is its own.

    Raises:
        AnnotationError: names the file, the line and the value.
    """
    path = Path(source)
    if path.is_dir():
        return _read_folders(path)
    if not path.exists():
        raise AnnotationError(
            path, 0, f"no such annotation file or folder; {how_to_get(path)}; set data.train, data.val or data.test"
        )  # fmt: skip
    rows = _read_rows(path, _read_lines(path))
    if not rows:
        raise AnnotationError(path, 0, "holds no videos; write one `path label` per line")
    for number, video, _ in rows:
        if not os.path.isabs(video) and os.path.normpath(video).split(os.sep)[0] == os.pardir:
            raise AnnotationError(path, number, f"path {video!r} leaves the root folder; set data.root above it")
    values, class_names = _number_labels(path, rows)
    paths = pa.array([video for _, video, _ in rows])
    return VideoTable(paths, values, class_names, Path(root) if root is not None else path.parent)


def how_to_get(source: str | os.PathLike[str] = "") -> str:
    """What to do about annotations that are missing, for messages."""
    command = ["python", "-m", "mvit_video.data.digits"]
    if demo := re.match(r"(?P<root>(.*/)?data/demo)/(?P<labels>[^/]+)/", Path(source).as_posix()):
        command += ["--root", demo["root"], "--labels", demo["labels"]]
        return f"`{shlex.join(command)}` writes it (docs/data.md shows how to lay out other videos)"
    return (
        "docs/data.md shows how to lay out videos; configs/demo.yaml needs none of yours, "
        f"`{shlex.join(command)}` writes those that it uses"
    )


class _Row(NamedTuple):
    line: int
    path: str
    label: str


def _read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(path, 0, f"is not a text file (byte {error.start} is no UTF-8)") from None
    except OSError as error:
        raise AnnotationError(path, 0, f"cannot be read ({error.strerror})") from None
    stripped = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in stripped if line]


def _read_rows(file: Path, lines: list[tuple[int, str]]) -> list[_Row]:
    below_comments = list(dropwhile(lambda numbered: numbered[1].startswith("#"), lines))
    if below_comments and {"path", "label"} <= set(_column_names(below_comments[0][1])):
        return _read_csv(file, below_comments)
    # training lists of other projects are called `.csv`, but separate by spaces
    if file.suffix.lower() == ".csv" and lines and "," in lines[0][1]:
        return _read_csv(file, lines)
    return [_split_line(file, number, line) for number, line in lines if not line.startswith("#")]


def _read_csv(file: Path, lines: list[tuple[int, str]]) -> list[_Row]:
    (number, head), columns = lines[0], ["path", "label"]
    # a path has a suffix, a folder or a number, which names of columns do not
    if set(columns) & set(_column_names(head)) or not re.search(r"[./\\\d]", head):
        lines, columns = lines[1:], _column_names(head)
        missing = [name for name in ("path", "label") if name not in columns]
        if missing:
            raise AnnotationError(
                file, number, f"the header {head!r} has no column {missing[0]!r}; it needs the columns path and label"
            )
    rows: list[_Row] = []
    for number, line in lines:
        fields = _csv_fields(line)
        row = dict(zip(columns, fields, strict=False))
        if len(fields) != len(columns) or not row["path"] or not row["label"]:
            expected = ",".join(columns)
            raise AnnotationError(
                file, number, f"expected `{expected}`, got {line!r}; put quotes around a path with a comma"
            )
        rows.append(_Row(number, row["path"], row["label"]))
    return rows


def _csv_fields(line: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([line], skipinitialspace=True))]


def _column_names(line: str) -> list[str]:
    return [field.lower() for field in _csv_fields(line)]


def _split_line(file: Path, number: int, line: str) -> _Row:
    if match := _QUOTED_PATH.fullmatch(line):
        return _Row(number, match["path"], match["label"])
    if "\t" not in line and (match := _INTEGER_LABEL.fullmatch(line)):
        path, label = match["path"].rstrip(" ,"), match["label"]
    else:
        separator = next((mark for mark in "\t, " if mark in line), None)
        path, _, label = line.rpartition(separator) if separator else ("", "", line)
    row = _Row(number, path.strip(), label.strip())
    if not row.path or not row.label:
        raise AnnotationError(file, number, f"expected `path label`, got {line!r}")
    if not _is_video(row.path) and any(_is_video(word) for word in re.split(r"[\s,]+", row.path)):
        raise AnnotationError(
            file, number, f"path and label cannot be told apart in {line!r}; put a tab between them, or write CSV"
        )
    return row


def _is_video(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


def _number_labels(file: Path, rows: list[_Row]) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    numbers, labels = [row.line for row in rows], [row.label for row in rows]
    is_number = [re.fullmatch(r"-?\d+", label) is not None for label in labels]
    if any(is_number) != all(is_number):
        odd = is_number.index(not is_number[0])
        raise AnnotationError(
            file, numbers[odd], f"label {labels[odd]!r} mixes class names and class numbers; line {numbers[0]} has "
            f"{labels[0]!r}"
        )  # fmt: skip
    if not is_number[0]:
        names = tuple(sorted(set(labels)))
        rank = {name: i for i, name in enumerate(names)}
        return np.array([rank[label] for label in labels], dtype=np.int64), names
    for number, label in zip(numbers, labels, strict=True):
        if not -1 <= int(label) < 2**31:
            raise AnnotationError(file, number, f"label {label} is out of range; classes count from 0, -1 is unknown")
    return np.array([int(label) for label in labels], dtype=np.int64), None


def _read_folders(folder: Path) -> VideoTable:
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    videos = [
        (video.relative_to(folder).as_posix(), label)
        for label, entry in enumerate(classes)
        for video in sorted(entry.iterdir())
        if _is_video(video.name) and not video.name.startswith(".")
    ]
    if not videos:
        known = " ".join(sorted(VIDEO_SUFFIXES))
        raise AnnotationError(folder, 0, f"holds no folder with videos ({known}); give one folder per class")
    paths, labels = zip(*videos, strict=True)
    names = tuple(entry.name for entry in classes)
    empty = set(range(len(names))) - set(labels)
    if empty:
        raise AnnotationError(folder / names[min(empty)], 0, "holds no videos; remove the folder or fill it")
    return VideoTable(pa.array(paths), np.array(labels, dtype=np.int64), names, folder)
