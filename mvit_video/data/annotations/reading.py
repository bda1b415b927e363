"""From an annotation file or folder to a table."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from mvit_video.data.annotations import charades, kinetics
from mvit_video.data.annotations.classes import ClassNames, given_names, names_beside, parse_json
from mvit_video.data.annotations.delimited import guess_header, read_columns, read_header, read_table_columns
from mvit_video.data.annotations.folders import read_folders
from mvit_video.data.annotations.lines import Lines, below_comments, read_head, read_lines
from mvit_video.data.annotations.lists import read_list
from mvit_video.data.annotations.records import PARQUET_MAGIC, read_jsonl, read_parquet, read_records
from mvit_video.data.annotations.rows import Rows, make_table
from mvit_video.data.annotations.something import is_something, read_something
from mvit_video.data.annotations.splits import is_hmdb, is_ucf, read_hmdb, read_ucf
from mvit_video.data.annotations.table import VideoTable
from mvit_video.types import AnnotationError

_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_TABLE_COLUMNS = {"path", "label", "labels", "start", "end"}


def load_annotations(
    source: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    allow_outside: bool = False,
    class_names: Sequence[str] | str | os.PathLike[str] | None = None,
) -> VideoTable:
    """Read the annotations of a data set, whose kind is recognised by what they are.

    A list of `path label` lines; CSV, JSON lines or Parquet with the columns `path`, `label` (or `labels`), and perhaps
    `start` and `end` in seconds; a folder that holds one folder of videos per class; the published files of Kinetics,
    Something-Something V2, UCF101, HMDB51 and Charades; the manifest of a scan; tar shards. docs/data.md shows each.

    Labels are class numbers or class names. Names are numbered by `class_names`, else as the annotations say, else by
    a file `classes.txt` or `classes.json` beside them, else in sorted order.

    Args:
        root: folder that relative paths start from; None is the folder of the file. A folder of classes is its own.
        allow_outside: let relative paths leave the root by `..`, and absolute ones lie outside of a root that is given.
        class_names: name of each class in the order of their numbers, or a file that holds them.

    Raises:
        AnnotationError: names the file, the line and the value.
    """
    if _are_shards(source):
        from mvit_video.data.shards import load_shards

        return load_shards(os.fspath(source))
    path = Path(source)
    if not path.exists() and not is_hmdb(path):
        raise AnnotationError(
            path, 0, f"no such annotation file or folder; {how_to_get(path)}; set data.train, data.val or data.test"
        )  # fmt: skip
    given = given_names(class_names) if class_names is not None else None
    folder = Path(root) if root is not None else None
    if path.is_dir():
        known = given or names_beside(path)
        return make_table(read_folders(path, need_all=known is None), path, known, allow_outside=allow_outside)
    rows = _read_rows(path, folder, given)
    known = given or rows.classes or names_beside(path)
    return make_table(rows, folder, known, allow_outside=allow_outside)


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


def _are_shards(source: str | os.PathLike[str]) -> bool:
    text = os.fspath(source)
    return "://" in text or text.endswith(".tar") or next(glob.iglob(f"{glob.escape(text)}/*.tar"), None) is not None


def _read_rows(file: Path, root: Path | None, given: ClassNames | None) -> Rows:
    if not file.exists():
        return read_hmdb(file, root)
    if read_head(file).startswith(PARQUET_MAGIC):
        return read_parquet(file)
    lines = read_lines(file)
    if file.suffix.lower() in _JSON_SUFFIXES:
        return _read_json(lines, root, given)
    if is_ucf(lines):
        return read_ucf(lines, root)
    below = below_comments(lines)
    header = read_header(below, [kinetics.COLUMNS, charades.COLUMNS, {"path", "label"}, {"path", "labels"}])
    if header is None and file.suffix.lower() == ".csv" and len(lines):
        header = guess_header(lines)
    if header is None:
        return read_list(lines)
    if set(header.names) >= kinetics.COLUMNS:
        return kinetics.read_kinetics(header, root)
    if set(header.names) >= charades.COLUMNS:
        return charades.read_charades(header, root)
    return read_table_columns(read_columns(header, _TABLE_COLUMNS))


def _read_json(lines: Lines, root: Path | None, given: ClassNames | None) -> Rows:
    if not len(lines) or not lines.line(0).startswith("["):
        return read_jsonl(lines)
    records = parse_json(lines.file, lines.data.decode("utf-8-sig"))
    if is_something(records):
        return read_something(lines.file, records, root, given)
    return read_records(lines.file, records)
