"""Which videos there are and what they show."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mvit_video.types import AnnotationError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})

_INTEGER_LABEL = re.compile(r"(?P<path>.*\S)[\s,]+(?P<label>-?\d+)")


@dataclass(frozen=True, eq=False)
class VideoTable:
    """Videos in the order of their annotation file.

    Attributes:
        paths: as written, one string per video.
        labels: int64 class of each video; -1 where unknown.
        class_names: name of each class; None when the file gives numbers.
        root: folder that relative paths start from.
    """

    paths: NDArray[np.str_]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...] | None
    root: Path

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"VideoTable({len(self)} videos, {self.num_classes} classes, root={str(self.root)!r})"

    @property
    def num_classes(self) -> int:
        """Classes that the labels speak of: the number of names, or the highest label plus one."""
        return len(self.class_names) if self.class_names is not None else int(self.labels.max()) + 1

    def locate(self, row: int) -> Path:
        """Where the video of a row lies."""
        return self.root / str(self.paths[row])


def load_annotations(source: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> VideoTable:
    """Read an annotation file, or a folder that holds one folder of videos per class.

    A line is a path and a label, separated by a tab, a comma or spaces; the label is the last field, a class number
    or a class name. A `.csv` file, or one that starts with the header `path,label`, follows the rules of CSV. Blank
    lines and lines that start with `#` are skipped. Names are numbered in sorted order. That the videos exist is
    found out when they are opened.

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
            path, 0, "no such annotation file or folder; set data.train, data.val or data.test (docs/data.md shows "
            "the layouts; configs/demo.yaml needs no data)"
        )  # fmt: skip
    lines = _data_lines(path)
    is_csv = path.suffix.lower() == ".csv"
    if lines and re.fullmatch(r"path\s*,\s*label", lines[0][1], re.IGNORECASE):
        is_csv, lines = True, lines[1:]
    if not lines:
        raise AnnotationError(path, 0, "holds no videos; write one `path label` per line")
    paths, labels = [], []
    for number, line in lines:
        video, label = _split_csv(path, number, line) if is_csv else _split_line(path, number, line)
        if not os.path.isabs(video) and os.path.normpath(video).split(os.sep)[0] == os.pardir:
            raise AnnotationError(path, number, f"path {video!r} leaves the root folder; set data.root above it")
        paths.append(video)
        labels.append(label)
    values, class_names = _number_labels(path, [number for number, _ in lines], labels)
    return VideoTable(np.array(paths), values, class_names, Path(root) if root is not None else path.parent)


def _data_lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(path, 0, f"is not a text file (byte {error.start} is no UTF-8)") from None
    except OSError as error:
        raise AnnotationError(path, 0, f"cannot be read ({error.strerror})") from None
    stripped = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in stripped if line and not line.startswith("#")]


def _split_csv(file: Path, number: int, line: str) -> tuple[str, str]:
    fields = [field.strip() for field in next(csv.reader([line], skipinitialspace=True))]
    if len(fields) != 2 or not all(fields):
        raise AnnotationError(
            file, number, f"expected `path,label`, got {line!r}; put quotes around a path with a comma"
        )
    return fields[0], fields[1]


def _split_line(file: Path, number: int, line: str) -> tuple[str, str]:
    if match := _INTEGER_LABEL.fullmatch(line):
        return match["path"].rstrip(" \t,"), match["label"]
    separator = next((mark for mark in "\t, " if mark in line), None)
    path, _, label = line.rpartition(separator) if separator else ("", "", line)
    if not path.strip() or not label.strip():
        raise AnnotationError(file, number, f"expected `path label`, got {line!r}")
    return path.strip(), label.strip()


def _number_labels(
    file: Path, numbers: list[int], labels: list[str]
) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
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
        if video.suffix.lower() in VIDEO_SUFFIXES and not video.name.startswith(".")
    ]
    if not videos:
        known = " ".join(sorted(VIDEO_SUFFIXES))
        raise AnnotationError(folder, 0, f"holds no folder with videos ({known}); give one folder per class")
    paths, labels = zip(*videos, strict=True)
    names = tuple(entry.name for entry in classes)
    empty = set(range(len(names))) - set(labels)
    if empty:
        raise AnnotationError(folder / names[min(empty)], 0, "holds no videos; remove the folder or fill it")
    return VideoTable(np.array(paths), np.array(labels, dtype=np.int64), names, folder)
