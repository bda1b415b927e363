"""The CSV files of Charades, with several actions per video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from mvit_video.data.annotations.delimited import Header, read_columns, split_labels
from mvit_video.data.table.classes import ClassNames, read_names
from mvit_video.data.table.label_spans import group_labels
from mvit_video.data.table.rows import Rows, locate_videos
from mvit_video.jobs.arrow import compute, first, matches

COLUMNS = {"id", "actions"}

_CLASSES_FILE = "Charades_v1_classes.txt"
_CODES = tuple(f"c{number:03d}" for number in range(157))
_ACTION = r"^c[0-9]{3} [0-9]+(\.[0-9]*)? [0-9]+(\.[0-9]*)?$"


def read_charades(header: Header, root: Path | None) -> Rows:
    """Read videos with the actions that occur in them, each once, and when they do.

    Classes are called as `Charades_v1_classes.txt` beside the annotations says, else by their codes.
    """
    columns = read_columns(header, COLUMNS)
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
            row, f"action {spoken[unknown].as_py()!r} is none of the {len(classes.names)} classes of {classes.origin}"
        )
    times = compute.split_pattern(compute.utf8_slice_codeunits(spoken, 5), " ").flatten()
    spans = times.cast(pa.float64()).to_numpy().reshape(-1, 2)
    videos = compute.list_parent_indices(actions).to_numpy()
    # a few end before they begin
    labels, label_spans = group_labels(videos, numbers, np.sort(spans, axis=1), len(lines))
    rows = Rows(lines.file, lines.numbers, values["id"], labels, classes=classes, label_spans=label_spans)
    return locate_videos(rows, root or lines.file.parent, [values["id"]])


def _read_classes(file: Path) -> ClassNames:
    if not file.is_file():
        return ClassNames(_CODES, "Charades")
    names, origin = read_names(file)
    return ClassNames(tuple(name.removeprefix(f"c{i:03d}").strip() for i, name in enumerate(names)), origin)
