"""Rows of annotations, and the table made of them."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.table.classes import ClassNames
from mvit_video.data.table.files import MAX_DEPTH, FoldersOf, VideoIndex, first_few
from mvit_video.data.table.labels import check_label_spans
from mvit_video.data.table.numbering import WrittenLabels
from mvit_video.data.table.video_table import Archive, VideoTable
from mvit_video.jobs.arrow import compute, first, lengths, matches, to_mask
from mvit_video.types import AnnotationError


@dataclass(frozen=True)
class Rows:
    """Rows of an annotation file or of shards.

    Attributes:
        file: annotations, or the folder of shards.
        numbers: line of each row, from 1; 0 if there are no lines.
        paths: strings as written.
        labels: cells as written: strings, numbers, or lists of either; null is unknown.
        spans: float64 `(rows, 2)`, start and end in seconds; NaN is unknown.
        label_spans: spans of each label; see `VideoTable`.
        classes: class names that come with the file.
        unit: what `numbers` count; with "video", errors name the video.
        are_names: whether labels that look like numbers are names.
        are_lists: whether each cell is a list of labels, perhaps empty.
        root: folder of relative paths, if the file states it.
    """

    file: str | Path
    numbers: NDArray[np.int64]
    paths: pa.Array
    labels: pa.Array
    spans: NDArray[np.float64] | None = None
    classes: ClassNames | None = None
    root: Path | None = None
    are_names: bool = False
    are_lists: bool = False
    index_cache: Path | None = None
    num_missing: int = 0
    label_spans: pa.Array | None = None
    unit: Literal["line", "record", "row", "video"] = "line"

    def __len__(self) -> int:
        return len(self.numbers)

    def error(self, row: int, reason: str) -> AnnotationError:
        """Return the error for a row."""
        if self.unit == "video":
            return AnnotationError(os.path.join(self.file, self.paths[row].as_py()), 0, reason)
        number = int(self.numbers[row])
        if self.unit == "line":
            return AnnotationError(self.file, number, reason)
        return AnnotationError(self.file, 0, f"{self.unit} {number}: {reason}")


def make_table(
    rows: Rows,
    root: Path | None,
    known: ClassNames | None,
    *,
    allow_outside: bool = False,
    archive: Archive | None = None,
) -> VideoTable:
    """Return the table of rows, with labels numbered, and paths and times checked.

    Args:
        root: folder of relative paths, if the user gave one.
        known: class names given by the user or a file beside the annotations.
        archive: reads videos that are not separate files; their paths are only names.
    """
    if not len(rows):
        raise AnnotationError(rows.file, 0, "has no videos; write one `path label` per line")
    empty = first(lengths(rows.paths) == 0)
    if empty is not None:
        raise rows.error(empty, "has no path")
    zero = first(to_mask(compute.match_substring(rows.paths, "\0")))
    if zero is not None:
        raise rows.error(zero, f"path {rows.paths[zero].as_py()!r} has a zero byte, which file names cannot have")
    if archive is None and not allow_outside:
        _check_inside(rows, root)
    written = WrittenLabels(rows.labels, rows.classes, rows.are_names, rows.are_lists)
    labels, multi_labels, names = written.number(known, rows.error)
    spans = rows.label_spans
    return VideoTable(
        paths=rows.paths,
        labels=labels,
        class_names=names,
        root=root or rows.root or Path(rows.file).parent,
        multi_labels=multi_labels,
        spans=_check_spans(rows),
        index_cache=rows.index_cache,
        num_missing=rows.num_missing,
        label_spans=None if spans is None else check_label_spans(spans, multi_labels, rows.error),
        archive=archive,
        written=written.if_ambiguous(),
    )


def locate_videos(rows: Rows, root: Path, names: list[pa.Array], folders_of: FoldersOf = lambda row: set()) -> Rows:
    """Return the rows whose videos are below a folder, with their paths; warn about the others.

    Args:
        rows: rows whose paths are names for messages.
        names: possible names of a video's file, without suffix, best first.
        folders_of: names of folders where the video of a row may be, to choose between equal names.

    Raises:
        AnnotationError: no video is there, or several have the same name.
    """
    index = VideoIndex(root)
    found = index.find(names[0], folders_of)
    for others in names[1:]:
        found = compute.coalesce(found, index.find(others, folders_of))
    is_there = to_mask(found.is_valid())
    missing = np.flatnonzero(~is_there)
    if not is_there.any():
        raise AnnotationError(
            rows.file, 0, f"none of its {len(rows)} videos is under {root}: no {names[0][0].as_py()!r} with the suffix "
            f"of a video up to {MAX_DEPTH} folders deep; set data.root to the folder of the videos"
        )  # fmt: skip
    if missing.size:
        shown = first_few(rows.paths.take(pa.array(missing)).to_pylist())
        warnings.warn(
            f"{rows.file}: ignoring {missing.size} of {len(rows)} videos, which are missing under {root}: {shown}",
            stacklevel=5,
        )
    return select(replace(rows, paths=found, num_missing=rows.num_missing + missing.size), is_there)


def select(rows: Rows, keep: NDArray[np.bool_]) -> Rows:
    """Return some of the rows."""
    if keep.all():
        return rows
    mask = pa.array(keep)
    return replace(
        rows,
        numbers=rows.numbers[keep],
        paths=rows.paths.filter(mask),
        labels=rows.labels.filter(mask),
        spans=None if rows.spans is None else rows.spans[keep],
        label_spans=None if rows.label_spans is None else rows.label_spans.filter(mask),
    )


def _check_inside(rows: Rows, root: Path | None) -> None:
    for row in np.flatnonzero(matches(rows.paths, r"(^|/)\.\.(/|$)")):
        path = os.path.normpath(rows.paths[int(row)].as_py())
        if path.split(os.sep)[0] == os.pardir:
            raise rows.error(
                int(row),
                f"path {rows.paths[int(row)].as_py()!r} is outside the root folder; set data.root to a higher folder "
                "or data.loading.allow_outside: true",
            )
    if root is None:
        return
    is_outside = to_mask(compute.starts_with(rows.paths, "/"))
    roots = (os.path.abspath(root), os.path.realpath(root))
    for folder in roots:
        is_outside &= ~to_mask(compute.starts_with(rows.paths, os.path.join(folder, "")))
    # `..` in an absolute path may lead outside, or back inside
    is_outside |= matches(rows.paths, r"^/(.*/)?\.\.(/|$)")
    for row in np.flatnonzero(is_outside):
        path = rows.paths[int(row)].as_py()
        if not any(Path(os.path.normpath(path)).is_relative_to(folder) for folder in roots):
            raise rows.error(
                int(row), f"path {path!r} is outside data.root={str(root)!r}; remove data.root if paths are absolute, "
                "or set data.loading.allow_outside: true"
            )  # fmt: skip


def _check_spans(rows: Rows) -> NDArray[np.float64] | None:
    if rows.spans is None or np.isnan(rows.spans).all():
        return None
    start, end = rows.spans.T
    is_whole = np.isnan(start) & np.isnan(end)
    start, end = np.where(np.isnan(start), 0.0, start), np.where(np.isnan(end), np.inf, end)
    bad = first(~((start >= 0) & (start < end) & (start < np.inf)))
    if bad is not None:
        raise rows.error(
            bad, f"start={start[bad]:g} and end={end[bad]:g} are not a segment; give seconds, 0 <= start < end"
        )
    return np.where(is_whole[:, None], np.nan, np.stack([start, end], axis=1))
