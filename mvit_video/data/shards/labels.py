"""Labels of several shards as one column of class numbers."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.annotations.classes import CLASSES_FILES, ClassNames, names_beside, number_labels, read_names
from mvit_video.data.shards.storage import Shard, is_url, read_file
from mvit_video.types import AnnotationError


class Labels(NamedTuple):
    """Columns of a table.

    Attributes:
        numbers: int64 class of each video, -1 where unknown, and everywhere beside `lists`.
        lists: the classes of each video, where it may have several.
        names: of the classes, where there are any.
    """

    numbers: NDArray[np.int64]
    lists: pa.ListArray | None
    names: tuple[str, ...] | None


def join_labels(shards: Sequence[Shard], found: Sequence[pa.ChunkedArray]) -> pa.Array:
    """The labels of all shards in one column.

    Args:
        found: labels in each shard: class numbers, class names, lists of either, or nulls.

    Raises:
        AnnotationError: shards have different sorts of labels.
    """
    types = [column.type for column in found]
    is_list = [pa.types.is_list(kind) for kind in types]
    # shards without labels, or with empty lists only, go with any
    known: dict[pa.DataType, Shard] = {}
    for shard, kind in zip(shards, types, strict=True):
        if not pa.types.is_null(kind.value_type if pa.types.is_list(kind) else kind):
            known.setdefault(kind, shard)
    kind = next(iter(known), pa.list_(pa.int64()) if any(is_list) else pa.int64())
    if len(known) > 1 or any(is_list) != pa.types.is_list(kind):
        other, other_shard = [*known.items(), ("list", shards[is_list.index(True)] if any(is_list) else shards[0])][1]
        raise AnnotationError(
            other_shard.url, 0, f"its labels are of type {other}, those of {known[kind].url} of type {kind}; give them "
            "one type"
        )  # fmt: skip
    return pa.chunked_array([chunk.cast(kind) for column in found for chunk in column.chunks], kind).combine_chunks()


def as_numbers(labels: pa.Array, paths: pa.Array, folder: str, known: ClassNames | None) -> Labels:
    """Classes by number, names numbered as in `known` or in sorted order.

    Args:
        paths: of the videos, below `folder`, for messages.

    Raises:
        AnnotationError: a label has no number.
    """
    is_list = pa.types.is_list(labels.type)
    values = labels.flatten() if is_list else labels
    lengths = labels.value_lengths().fill_null(0).to_numpy() if is_list else np.ones(len(labels), np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])

    def error(i: int, reason: str) -> AnnotationError:
        path = paths[int(np.searchsorted(starts, i, side="right")) - 1].as_py()
        return AnnotationError(posixpath.join(folder, path), 0, reason)

    numbers, names = number_labels(values, known, error, are_names=pa.types.is_string(values.type))
    if not is_list:
        return Labels(numbers, None, names)
    lists = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), pa.array(numbers))
    return Labels(np.full(len(lists), -1), lists, names)


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
