"""Labels of several shards as one column of class numbers."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from mvit_video.data.table.classes import CLASSES_FILES, ClassNames, names_beside, read_names
from mvit_video.data.table.numbering import Labels, WrittenLabels
from mvit_video.jobs.stores import Shard, is_url, read_file
from mvit_video.types import AnnotationError


def join_labels(shards: Sequence[Shard], found: Sequence[pa.ChunkedArray]) -> pa.Array:
    """The labels of all shards in one column.

    Args:
        found: labels in each shard: texts, lists of texts, or nulls.

    Raises:
        AnnotationError: some shards have lists, others single labels.
    """
    kinds: dict[pa.DataType, Shard] = {}
    for shard, column in zip(shards, found, strict=True):
        if not pa.types.is_null(column.type):  # shards without labels go with any
            kinds.setdefault(column.type, shard)
    if len(kinds) > 1:
        several, single = (kinds[kind] for kind in sorted(kinds, key=str))  # large_list, large_string
        raise AnnotationError(
            several.url, 0, f"gives lists of labels, {single.url} single labels; give one sort in all shards"
        )
    kind = next(iter(kinds), pa.large_string())
    return pa.chunked_array([chunk.cast(kind) for column in found for chunk in column.chunks], kind).combine_chunks()


def as_numbers(labels: pa.Array, paths: pa.Array, folder: str, known: ClassNames | None) -> Labels:
    """Classes by number, names numbered as in `known` or in sorted order.

    Args:
        labels: texts, or lists of texts.
        paths: of the videos, below `folder`, for messages.

    Raises:
        AnnotationError: a label has no number.
    """
    return WrittenLabels(labels).number(known, partial(row_error, folder, paths))


def row_error(folder: str, paths: pa.Array, row: int, reason: str) -> AnnotationError:
    """Return the error about a video."""
    return AnnotationError(posixpath.join(folder, paths[row].as_py()), 0, reason)


def find_names(shard_url: str) -> ClassNames | None:
    """Names of the file `classes.txt` or `classes.json` beside a shard.

    Raises:
        AnnotationError: names the file, the line and the value.
    """
    if not is_url(shard_url):
        return names_beside(Path(shard_url))
    for name in CLASSES_FILES:
        url = posixpath.join(posixpath.dirname(shard_url), name)
        data = read_file(url)
        if data is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)
            file.write_bytes(data)
            try:
                return read_names(file)._replace(origin=url)
            except AnnotationError as error:
                raise AnnotationError(url, error.line, error.reason) from None
    return None
