"""Published files of Kinetics, Something-Something V2, UCF101, HMDB51 and Charades."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mvit_video.data.annotations.delimited import Columns, Header, read_columns, read_seconds, split_labels
from mvit_video.data.annotations.lines import Lines, read_lines
from mvit_video.data.table.classes import ClassNames, read_names, sorted_names
from mvit_video.data.table.files import SPLITS
from mvit_video.data.table.labels import group_labels
from mvit_video.data.table.rows import Rows, locate_videos
from mvit_video.jobs.arrow import as_strings, compute, first, matches
from mvit_video.types import AnnotationError

KINETICS_COLUMNS = {"youtube_id", "time_start", "time_end"}


def read_kinetics(header: Header, root: Path | None) -> Rows:
    """Read rows `label,youtube_id,time_start,time_end,split` of Kinetics whose videos are below the root.

    A video is named `{youtube_id}_{time_start:06d}_{time_end:06d}` or `{youtube_id}`, with any suffix.
    """
    columns = read_columns(header, {*KINETICS_COLUMNS, "label", "split"})
    lines, values = columns
    ids = values["youtube_id"]
    labels = values.get("label", pa.nulls(len(lines), pa.large_string()))
    # test sets were published without labels
    labels = compute.if_else(compute.equal(compute.binary_length(labels), 0), pa.scalar(None, labels.type), labels)
    if not len(lines):
        return Rows(lines.file, lines.numbers, ids, labels)
    times = [_padded(columns, name) for name in ("time_start", "time_end")]
    clips = compute.binary_join_element_wise(ids, *times, pa.scalar("_", pa.large_string()))
    # includes classes whose videos are all missing
    names = sorted_names(labels)
    classes = ClassNames(names, str(lines.file)) if names else None
    rows = Rows(lines.file, lines.numbers, clips, labels, classes=classes, are_names=True)
    return locate_videos(rows, root or lines.file.parent, [clips, ids], lambda row: _folders(columns, row))


def _padded(columns: Columns, name: str) -> pa.Array:
    seconds = read_seconds(columns, name)
    bad = first(~((seconds >= 0) & (seconds < 1e6)))
    if bad is not None:
        raise columns.lines.error(bad, f"{name} {columns.values[name][bad].as_py()!r} is not a number of seconds")
    whole = pa.array(np.floor(seconds).astype(np.int64)).cast(pa.large_string())
    return compute.utf8_lpad(whole, width=6, padding="0")


def _folders(columns: Columns, row: int) -> set[str]:
    folders = set()
    if "label" in columns.values:
        label = columns.values["label"][row].as_py()
        folders |= {label, label.replace(" ", "_")}
    if "split" in columns.values:
        split = columns.values["split"][row].as_py()
        folders |= {split, *(name for name, meant in SPLITS.items() if meant == SPLITS.get(split))}
    return folders


_LABELS_FILES = ("something-something-v2-labels.json", "labels.json")


def is_something(records: list[Any]) -> bool:
    """Return whether records are of Something-Something: with an `id` and no `path`."""
    return bool(records) and isinstance(records[0], dict) and "id" in records[0] and "path" not in records[0]


def read_something(file: Path, records: list[Any], root: Path | None, known: ClassNames | None) -> Rows:
    """Read videos named `{id}`; the class is the template without brackets, numbered by a labels file."""
    beside = [file.with_name(name) for name in _LABELS_FILES if file.with_name(name).is_file()]
    classes = known or (read_names(beside[0]) if beside else None)
    names: list[str] = []
    labels: list[str | None] = []
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict) or not isinstance(record.get("id"), (str, int)):
            raise AnnotationError(file, 0, f'record {number}: has no "id", got {str(record)[:80]!r}')
        template = record.get("template")
        if template is not None and not isinstance(template, str):
            raise AnnotationError(file, 0, f'record {number}: "template" must be a string, got {str(template)[:80]!r}')
        names.append(str(record["id"]))
        labels.append(template if template is None else template.replace("[", "").replace("]", ""))
    if classes is None and any(labels):
        raise AnnotationError(
            file, 0, f"does not number its templates; put {_LABELS_FILES[0]} or {_LABELS_FILES[1]} beside it"
        )
    videos = as_strings(names)
    rows = Rows(
        file, np.arange(1, len(names) + 1), videos, as_strings(labels), classes=classes, are_names=True, unit="record"
    )
    return locate_videos(rows, root or file.parent, [videos])


_UCF_FILE = re.compile(r"(train|test)list\d+\.txt")
_UCF_LINE = re.compile(r"(?P<label>[^/\s]+)/(?P<name>v_\S+)\.avi(\s+(?P<number>\d+))?")
_UCF_CLASSES = "classInd.txt"
_HMDB_FILE = re.compile(r"(?P<part>train|test)_split(?P<split>\d)\.txt")
_HMDB_LINE = re.compile(r"(?P<name>\S.*\S)\.avi\s+(?P<part>[012])")
_HMDB_PARTS = {"train": "1", "test": "2"}


def is_ucf(lines: Lines) -> bool:
    """Return whether a list is a split of UCF101, whose class numbers start at 1."""
    return bool(_UCF_FILE.fullmatch(lines.file.name) and len(lines) and _UCF_LINE.fullmatch(lines.line(0)))


def read_ucf(lines: Lines, root: Path | None) -> Rows:
    """Read videos `Class/v_Class_g01_c01.avi`, in a training list followed by the class number."""
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
    """Return whether a path such as `train_split1.txt` names a split of HMDB51, which has a file per class."""
    return bool(_hmdb_files(source)) and not source.exists()


def read_hmdb(source: Path, root: Path | None) -> Rows:
    """Read one part of a split from the files `{class}_test_split1.txt` of all classes."""
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
        raise AnnotationError(file, 0, "is missing; it names the class numbers of UCF101")
    names, origin = read_names(file)
    for i, name in enumerate(names):
        if not re.fullmatch(rf"{i + 1}\s+\S+", name):
            raise AnnotationError(file, i + 1, f"expected `{i + 1} Class`, got {name!r}")
    return ClassNames(tuple(name.split()[1] for name in names), origin)


CHARADES_COLUMNS = {"id", "actions"}

_CLASSES_FILE = "Charades_v1_classes.txt"
_CODES = tuple(f"c{number:03d}" for number in range(157))
_ACTION = r"^c[0-9]{3} [0-9]+(\.[0-9]*)? [0-9]+(\.[0-9]*)?$"


def read_charades(header: Header, root: Path | None) -> Rows:
    """Read videos with the actions in them and their spans.

    Class names are those of `Charades_v1_classes.txt` beside the annotations, else the codes.
    """
    columns = read_columns(header, CHARADES_COLUMNS)
    lines, values = columns
    actions = split_labels(values["actions"])
    spoken = actions.flatten()
    bad = first(~matches(spoken, _ACTION))
    if bad is not None:
        row = int(compute.list_parent_indices(actions)[bad].as_py())
        raise lines.error(row, f"action {spoken[bad].as_py()!r} is not of the form `c092 11.90 21.20`")
    classes = _read_classes(lines.file.parent / _CLASSES_FILE)
    numbers = compute.utf8_slice_codeunits(spoken, 1, 4).cast(pa.int64()).to_numpy()
    unknown = first(numbers >= len(classes.names))
    if unknown is not None:
        row = int(compute.list_parent_indices(actions)[unknown].as_py())
        raise lines.error(
            row,
            f"action {spoken[unknown].as_py()!r} is not one of the {len(classes.names)} classes of {classes.origin}",
        )
    times = compute.split_pattern(compute.utf8_slice_codeunits(spoken, 5), " ").flatten()
    spans = times.cast(pa.float64()).to_numpy().reshape(-1, 2)
    videos = compute.list_parent_indices(actions).to_numpy()
    # a few spans end before they start
    labels, label_spans = group_labels(videos, numbers, np.sort(spans, axis=1), len(lines))
    rows = Rows(lines.file, lines.numbers, values["id"], labels, classes=classes, label_spans=label_spans)
    return locate_videos(rows, root or lines.file.parent, [values["id"]])


def _read_classes(file: Path) -> ClassNames:
    if not file.is_file():
        return ClassNames(_CODES, "Charades")
    names, origin = read_names(file)
    return ClassNames(tuple(name.removeprefix(f"c{i:03d}").strip() for i, name in enumerate(names)), origin)
