"""Videos that a user names: files, folders, patterns, annotations."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data import VideoTable, find_videos
from mvit_video.data.sources import require_videos
from mvit_video.data.table.classes import describe_label
from mvit_video.data.table.files import VIDEO_SUFFIXES, is_video
from mvit_video.features.videos import Stored, Video, video_name
from mvit_video.jobs.arrow import as_strings, compute
from mvit_video.jobs.files import size_and_time
from mvit_video.types import AnnotationError, ConfigError


class Stamp(NamedTuple):
    """Version of the content of a video: size and time of a file, `version` of a video in an archive or at a URL."""

    size: int | None
    mtime_ns: int | None
    version: str | None


@dataclass(frozen=True, eq=False)
class Inputs:
    """Videos in columns, each once.

    Attributes:
        tables: sources of the videos.
        names: `video_name` of each video.
        table: number of the table of each video.
        row: its row in the table.
        labels: its class; -1 where unknown, where it has several, and where sources disagree.
        class_names: name of each class, where known.
    """

    tables: tuple[VideoTable, ...]
    names: pa.Array
    table: NDArray[np.int64]
    row: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.names)

    def named(self, class_names: tuple[str, ...]) -> Inputs:
        """Return the videos with names for their classes.

        Raises:
            ConfigError: the classes have other names already, or there are fewer names than classes.
        """
        if self.class_names not in (None, class_names):
            raise ConfigError(f"class_names={class_names[0]}, ...: the videos name their classes; omit it")
        largest = max((int(table.labels.max(initial=-1)) for table in self.tables), default=-1)
        if largest >= len(class_names):
            raise ConfigError(f"class_names holds {len(class_names)} names, the videos have class {largest}")
        return replace(self, class_names=class_names)

    def stamp(self, number: int) -> Stamp:
        """Return the stamp of a video, by which a change of its content is seen."""
        table, row = self.tables[self.table[number]], int(self.row[number])
        if table.archive is not None:
            return Stamp(None, None, table.archive.version(row))
        return Stamp(*size_and_time(str(table.locate(row))), None)

    def video(self, number: int) -> Video:
        """Return a video, which is not read yet."""
        table, row = self.tables[self.table[number]], int(self.row[number])
        label = int(self.labels[number])
        part = None if table.archive is None else table.archive.take(np.array([row]))
        source = table.locate(row) if part is None else Stored(part)
        return Video(table.path(row), source, label if label >= 0 else None, table.span(row))


def find_inputs(sources: Sequence[str], root: str | None = None) -> Inputs:
    """Return the videos that some sources name.

    Args:
        sources: video files; folders, with all videos below them; patterns and URLs of these; annotations as
            `load_annotations` takes them, with their labels and segments; lists of paths. A folder of one folder per
            class gives labels too.
        root: folder that relative paths of annotations start from; None is that of the annotations.

    Raises:
        ConfigError: a source names no video, or two sources number their classes differently.
        AnnotationError: annotations cannot be read, or a folder cannot be listed.
    """
    return join_tables([table for source in sources for table in _tables(source, root)])


def one_video(source: str) -> Video:
    """Return the only video that a source names, as `find_inputs` takes it.

    Raises:
        ConfigError: it names none or several.
        AnnotationError: it cannot be read.
    """
    inputs = find_inputs([source])
    if len(inputs) != 1:
        raise ConfigError(f"videos={source}: names {len(inputs):,} videos; give one")
    return inputs.video(0)


def join_tables(tables: Sequence[VideoTable]) -> Inputs:
    """Return the videos of tables, each once.

    Raises:
        ConfigError: two tables number their classes differently.
    """
    names = pa.concat_arrays([as_strings(_names(table)) for table in tables])
    codes = compute.dictionary_encode(names).indices.to_numpy()  # in the order of their first places
    _, kept = np.unique(codes, return_index=True)
    class_names = _class_names(tables)
    labels = _agreed(codes, np.concatenate([table.labels for table in tables]), names.take(pa.array(kept)), class_names)
    table = np.repeat(np.arange(len(tables)), [len(table) for table in tables])[kept]
    row = np.concatenate([np.arange(len(table)) for table in tables])[kept]
    return Inputs(tuple(tables), names.take(pa.array(kept)), table, row, labels, class_names)


def _tables(source: str, root: str | None) -> Iterator[VideoTable]:
    if "://" in source or source.endswith(".tar") or not glob.has_magic(source) or os.path.lexists(source):
        yield _table(source, root)
        return
    found = sorted(glob.glob(source, recursive=True))
    matching = [path for path in found if os.path.isdir(path) or is_video(path)]
    if not matching:
        others = f"; of {len(found)} others none ends in {' '.join(sorted(VIDEO_SUFFIXES))}" if found else ""
        raise ConfigError(f"videos={source}: no video and no folder matches the pattern{others}")
    files = [path for path in matching if not os.path.isdir(path)]
    if files:
        yield VideoTable.of_paths(files, Path())
    for folder in matching:
        if os.path.isdir(folder):
            yield _table(folder, root)


def _table(source: str, root: str | None) -> VideoTable:
    try:
        table = find_videos(source, root, labels="optional")
    except AnnotationError as error:
        if str(error.file) != source or error.line:
            raise
        raise ConfigError(f"videos={error}") from error
    require_videos(table, "extract")
    if table.archive is not None or not os.path.isdir(source):
        return table
    # paths begin with the folder as the user wrote it
    paths = [os.path.join(source, path) for path in table.paths.to_pylist()]
    return replace(table, paths=as_strings(paths), root=Path())


def _names(table: VideoTable) -> list[str]:
    if table.spans is None:
        return table.paths.to_pylist()
    return [video_name(table.path(row), table.span(row)) for row in range(len(table))]


def _agreed(
    codes: NDArray[np.int32], labels: NDArray[np.int64], names: pa.Array, class_names: tuple[str, ...] | None
) -> NDArray[np.int64]:
    """Return the class of each video, -1 where nothing gives one or several rows differ, which is a warning."""
    lowest, highest = np.full(len(names), np.iinfo(np.int64).max), np.full(len(names), -1)
    is_known = labels >= 0
    np.minimum.at(lowest, codes[is_known], labels[is_known])
    np.maximum.at(highest, codes[is_known], labels[is_known])
    differ = np.flatnonzero(lowest < highest)
    if differ.size:
        one, other = (describe_label(int(ends[differ[0]]), class_names) for ends in (lowest, highest))
        listed = "1 video is" if differ.size == 1 else f"{differ.size:,} videos are"
        warnings.warn(
            f"{listed} listed with different labels and lose their label, the first is "
            f"{names[int(differ[0])].as_py()} ({one}, {other}); give several labels as a list, or correct them",
            stacklevel=3,
        )
    return np.where(lowest == highest, highest, -1)


def _class_names(tables: Sequence[VideoTable]) -> tuple[str, ...] | None:
    """Return the class names of all tables with labels."""
    named = {table.class_names for table in tables if table.is_multilabel or (table.labels >= 0).any()}
    if len(named) > 1:
        raise ConfigError("the videos number their classes differently; give one annotation file")
    return next(iter(named), None)
