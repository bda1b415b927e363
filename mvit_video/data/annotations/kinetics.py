"""The CSV files of Kinetics-400, -600 and -700, whose videos are called by YouTube's names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from mvit_video.data.annotations.delimited import Columns, Header, read_columns, read_seconds
from mvit_video.data.table.classes import ClassNames, sorted_names
from mvit_video.data.table.files import SPLITS
from mvit_video.data.table.rows import Rows, locate_videos
from mvit_video.jobs.arrow import compute, first

COLUMNS = {"youtube_id", "time_start", "time_end"}


def read_kinetics(header: Header, root: Path | None) -> Rows:
    """Videos `label,youtube_id,time_start,time_end,split` whose files are under the root.

    A file is called `{youtube_id}_{time_start:06d}_{time_end:06d}` or `{youtube_id}`, with any suffix of videos.
    """
    columns = read_columns(header, {*COLUMNS, "label", "split"})
    lines, values = columns
    ids = values["youtube_id"]
    labels = values.get("label", pa.nulls(len(lines), pa.large_string()))
    # test sets were published without labels
    labels = compute.if_else(compute.equal(compute.binary_length(labels), 0), pa.scalar(None, labels.type), labels)
    if not len(lines):
        return Rows(lines.file, lines.numbers, ids, labels)
    times = [_padded(columns, name) for name in ("time_start", "time_end")]
    clips = compute.binary_join_element_wise(ids, *times, pa.scalar("_", pa.large_string()))
    # also the names of classes whose videos are all missing
    names = sorted_names(labels)
    classes = ClassNames(names, str(lines.file)) if names else None
    rows = Rows(lines.file, lines.numbers, clips, labels, classes=classes, are_names=True)
    return locate_videos(rows, root or lines.file.parent, [clips, ids], lambda row: _folders(columns, row))


def _padded(columns: Columns, name: str) -> pa.Array:
    seconds = read_seconds(columns, name)
    bad = first(~((seconds >= 0) & (seconds < 1e6)))
    if bad is not None:
        raise columns.lines.error(bad, f"{name} {columns.values[name][bad].as_py()!r} is no number of seconds")
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
