"""Tables from annotation files, folders and shards of any format."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from mvit_video.data.annotations.delimited import guess_header, read_columns, read_header, read_table_columns
from mvit_video.data.annotations.folders import read_folders
from mvit_video.data.annotations.lines import Lines, below_comments, read_head, read_lines, read_list, read_paths
from mvit_video.data.annotations.published import (
    CHARADES_COLUMNS,
    KINETICS_COLUMNS,
    is_hmdb,
    is_something,
    is_ucf,
    read_charades,
    read_hmdb,
    read_kinetics,
    read_something,
    read_ucf,
)
from mvit_video.data.annotations.records import PARQUET_MAGIC, read_jsonl, read_parquet, read_records
from mvit_video.data.shards import read_shards
from mvit_video.data.table.classes import ClassNames, given_names, names_beside, parse_json
from mvit_video.data.table.rows import Rows, make_table
from mvit_video.data.table.video_table import VideoTable
from mvit_video.jobs.foreign import parsing
from mvit_video.types import AnnotationError

_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_TABLE_COLUMNS = {"path", "label", "labels", "start", "end"}


def load_annotations(
    source: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    allow_outside: bool = False,
    need_labels: bool = True,
    class_names: Sequence[str] | str | os.PathLike[str] | None = None,
) -> VideoTable:
    """Read the annotations of a data set; the format is detected.

    Formats: a list of `path label` lines; CSV, JSON, JSON lines or Parquet with the columns `path`, `label` (or
    `labels`), and perhaps `start` and `end` in seconds; a folder of class folders; the published files of Kinetics,
    Something-Something V2, UCF101, HMDB51 and Charades; the manifest of a scan; tar shards.
    docs/reference/annotations.md shows each.

    Labels are class numbers or class names. Names are numbered as in `class_names`, else as in `classes.txt` or
    `classes.json` beside the annotations, else as the annotations say, else in sorted order.

    Args:
        root: folder of relative paths; None is the folder of the file. A folder of classes is its own root.
        allow_outside: allow videos outside of the root.
        need_labels: refuse annotations without labels; otherwise their labels are unknown.
        class_names: class names in the order of their numbers, or a file of them.

    Raises:
        AnnotationError: names the file, the line and the value.
    """
    given = given_names(class_names) if class_names is not None else None
    with parsing(source):
        return _load(source, root, given, allow_outside=allow_outside, need_labels=need_labels)


def _load(
    source: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    given: ClassNames | None,
    *,
    allow_outside: bool,
    need_labels: bool,
) -> VideoTable:
    if _are_shards(source):
        rows, archive = read_shards(source)
        beside = names_beside(archive.shards[0].url) if given is None and rows.classes is None else None
        return make_table(rows, None, given or beside, archive=archive)
    path = Path(source)
    if not may_exist(path):
        raise AnnotationError(path, 0, "no such annotation file or folder")
    known = given or names_beside(path)
    folder = Path(root) if root is not None else None
    if os.path.isdir(path):
        folder, rows = path, read_folders(path, need_all=known is None)
    else:
        rows = _read_rows(path, folder, known, need_labels=need_labels)
    return make_table(rows, folder, known, allow_outside=allow_outside)


def may_exist(source: str | os.PathLike[str]) -> bool:
    """Return whether annotations exist; URLs and shards are checked later, when they are opened."""
    text = os.fspath(source)
    return "://" in text or text.endswith(".tar") or os.path.exists(text) or is_hmdb(Path(text))


def _are_shards(source: str | os.PathLike[str]) -> bool:
    text = os.fspath(source)
    return "://" in text or text.endswith(".tar") or next(glob.iglob(f"{glob.escape(text)}/*.tar"), None) is not None


def _read_rows(file: Path, root: Path | None, known: ClassNames | None, *, need_labels: bool) -> Rows:
    if not os.path.exists(file):
        return read_hmdb(file, root)
    if read_head(file).startswith(PARQUET_MAGIC):
        return read_parquet(file, need_labels=need_labels)
    lines = read_lines(file)
    if file.suffix.lower() in _JSON_SUFFIXES:
        return _read_json(lines, root, known, need_labels=need_labels)
    if is_ucf(lines):
        return read_ucf(lines, root)
    below = below_comments(lines)
    tables = [{"path", "label"}, {"path", "labels"}] if need_labels else [{"path"}]
    header = read_header(below, [KINETICS_COLUMNS, CHARADES_COLUMNS, *tables])
    if header is None and not need_labels and (bare := read_paths(lines)) is not None:
        return bare
    if header is None and file.suffix.lower() == ".csv" and len(lines):
        header = guess_header(lines)
    if header is None:
        return read_list(lines)
    if set(header.names) >= KINETICS_COLUMNS:
        return read_kinetics(header, root)
    if set(header.names) >= CHARADES_COLUMNS:
        return read_charades(header, root)
    return read_table_columns(read_columns(header, _TABLE_COLUMNS))


def _read_json(lines: Lines, root: Path | None, known: ClassNames | None, *, need_labels: bool) -> Rows:
    if not len(lines) or not lines.line(0).startswith("["):
        return read_jsonl(lines, need_labels=need_labels)
    records = parse_json(lines.file, lines.data.decode("utf-8-sig"))
    if is_something(records):
        return read_something(lines.file, records, root, known)
    return read_records(lines.file, records, need_labels=need_labels)
