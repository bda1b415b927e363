"""The split files of UCF101 and HMDB51."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mvit_video.data.annotations.lines import Lines, read_lines
from mvit_video.data.table.classes import ClassNames, read_names
from mvit_video.data.table.rows import Rows, locate_videos
from mvit_video.jobs.arrow import as_strings
from mvit_video.types import AnnotationError

_UCF_FILE = re.compile(r"(train|test)list\d+\.txt")
_UCF_LINE = re.compile(r"(?P<label>[^/\s]+)/(?P<name>v_\S+)\.avi(\s+(?P<number>\d+))?")
_UCF_CLASSES = "classInd.txt"
_HMDB_FILE = re.compile(r"(?P<part>train|test)_split(?P<split>\d)\.txt")
_HMDB_LINE = re.compile(r"(?P<name>\S.*\S)\.avi\s+(?P<part>[012])")
_HMDB_PARTS = {"train": "1", "test": "2"}


def is_ucf(lines: Lines) -> bool:
    """Whether a list is a split of UCF101, whose class numbers count from 1."""
    return bool(_UCF_FILE.fullmatch(lines.file.name) and len(lines) and _UCF_LINE.fullmatch(lines.line(0)))


def read_ucf(lines: Lines, root: Path | None) -> Rows:
    """Videos `Class/v_Class_g01_c01.avi`, with the class number behind in a training list; the folder is the class."""
    classes = _read_ucf_classes(lines.file.with_name(_UCF_CLASSES))
    names: list[str] = []
    labels: list[str] = []
    for i in range(len(lines)):
        found = _UCF_LINE.fullmatch(lines.line(i))
        if not found:
            raise lines.error(i, f"expected `Class/v_Class_g01_c01.avi 1`, got {lines.line(i)!r}")
        number = found["number"]
        if number and not (0 < int(number) <= len(classes.names) and classes.names[int(number) - 1] == found["label"]):
            raise lines.error(i, f"class {number} is not {found['label']!r} in {classes.origin}")
        names.append(found["name"])
        labels.append(found["label"])
    videos = as_strings(names)
    rows = Rows(lines.file, lines.numbers, videos, as_strings(labels), classes=classes, are_names=True)
    return locate_videos(rows, root or lines.file.parent, [videos], lambda row: {labels[row]})


def is_hmdb(source: Path) -> bool:
    """Whether a path that is no file names a split of HMDB51, which has a file for each class: `train_split1.txt`."""
    return bool(_hmdb_files(source)) and not source.exists()


def read_hmdb(source: Path, root: Path | None) -> Rows:
    """Videos of one part of a split, from the files `{class}_test_split1.txt` of all classes."""
    found = _HMDB_FILE.fullmatch(source.name)
    assert found is not None
    part, files = _HMDB_PARTS[found["part"]], _hmdb_files(source)
    classes = sorted(files)
    names: list[str] = []
    labels: list[str] = []
    for label in classes:
        lines = read_lines(files[label])
        for i in range(len(lines)):
            line = _HMDB_LINE.fullmatch(lines.line(i))
            if not line:
                raise lines.error(
                    i, f"expected `video.avi 1` with 0 (unused), 1 (train) or 2 (test), got {lines.line(i)!r}"
                )
            if line["part"] == part:
                names.append(line["name"])
                labels.append(label)
    videos = as_strings(names)
    rows = Rows(
        source,
        np.zeros(len(names), np.int64),
        videos,
        as_strings(labels),
        classes=ClassNames(tuple(classes), str(source.parent)),
        are_names=True,
    )
    return locate_videos(rows, root or source.parent, [videos], lambda row: {labels[row]}) if names else rows


def _hmdb_files(source: Path) -> dict[str, Path]:
    found = _HMDB_FILE.fullmatch(source.name)
    if not found:
        return {}
    ending = f"_test_split{found['split']}.txt"
    return {file.name.removesuffix(ending): file for file in source.parent.glob(f"*{ending}")}


def _read_ucf_classes(file: Path) -> ClassNames:
    if not file.is_file():
        raise AnnotationError(file, 0, "is missing; the class numbers of UCF101 count from 1 and are named there")
    names, origin = read_names(file)
    for i, name in enumerate(names):
        if not re.fullmatch(rf"{i + 1}\s+\S+", name):
            raise AnnotationError(file, i + 1, f"expected `{i + 1} Class`, got {name!r}")
    return ClassNames(tuple(name.split()[1] for name in names), origin)
