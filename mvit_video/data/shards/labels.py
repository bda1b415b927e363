"""Labels of several shards as one column of class numbers."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.shards.storage import Shard, read_file
from mvit_video.types import AnnotationError

CLASSES_NAME = "classes.txt"


def number_labels(
    shards: Sequence[Shard], found: Sequence[pa.ChunkedArray], folder: str
) -> tuple[NDArray[np.int64], pa.ListArray | None, tuple[str, ...] | None]:
    """The class of each video, lists of classes where the labels are lists, and the names of the classes.

    Args:
        found: labels in each shard: class numbers, class names, lists of either, or nulls.
        folder: where `classes.txt` may lie, whose lines name the classes from 0 on.

    Raises:
        AnnotationError: shards have different sorts of labels, or `classes.txt` lacks one.
    """
    kind = _common_type(shards, [column.type for column in found])
    labels = pa.chunked_array([chunk.cast(kind) for column in found for chunk in column.chunks], kind).combine_chunks()
    is_list = pa.types.is_list(kind)
    values = labels.flatten() if is_list else labels
    names = _read_names(folder)
    if pa.types.is_string(values.type):
        numbers, names = _number_names(values, names, shards[0])
    else:
        numbers = values.cast(pa.int64()).fill_null(-1).to_numpy()
        if names is not None and numbers.max(initial=-1) >= len(names):
            raise AnnotationError(
                posixpath.join(folder, CLASSES_NAME), 0, f"names {len(names)} classes, a label is {numbers.max()}"
            )
    if not is_list:
        return numbers, None, names
    lengths = labels.value_lengths().fill_null(0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return np.full(len(lengths), -1), pa.ListArray.from_arrays(offsets, pa.array(numbers)), names


def _common_type(shards: Sequence[Shard], types: Sequence[pa.DataType]) -> pa.DataType:
    """The one type of labels; shards without labels, or with empty lists only, have any."""
    is_list = any(pa.types.is_list(kind) for kind in types)
    known: dict[pa.DataType, Shard] = {}
    for shard, kind in zip(shards, types, strict=True):
        if not pa.types.is_null(kind.value_type if pa.types.is_list(kind) else kind):
            known.setdefault(kind, shard)
    if len(known) > 1 or (known and is_list != pa.types.is_list(next(iter(known)))):
        (kind, shard), *others = known.items()
        other, other_shard = others[0] if others else ("list", shards[[pa.types.is_list(k) for k in types].index(True)])
        raise AnnotationError(
            other_shard.url, 0, f"its labels are of type {other}, those of {shard.url} of type {kind}; use one type"
        )
    return next(iter(known), pa.list_(pa.int64()) if is_list else pa.int64())


def _number_names(
    values: pa.StringArray, names: tuple[str, ...] | None, shard: Shard
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    encoded = values.dictionary_encode()
    used: list[str] = encoded.dictionary.to_pylist()
    if names is None:
        names = tuple(sorted(used))
    rank = {name: i for i, name in enumerate(names)}
    unknown = sorted(set(used) - set(rank))
    if unknown:
        raise AnnotationError(shard.url, 0, f"a label here or beside is {unknown[0]!r}, which {CLASSES_NAME} lacks")
    ranks = np.array([*(rank[name] for name in used), -1])
    return ranks[encoded.indices.fill_null(len(used)).to_numpy()], names


def _read_names(folder: str) -> tuple[str, ...] | None:
    file = posixpath.join(folder, CLASSES_NAME)
    data = read_file(file)
    if data is None:
        return None
    try:
        lines = data.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise AnnotationError(file, 0, "is not a text file in UTF-8; write the name of one class per line") from None
    names: dict[str, int] = {}
    for number, name in enumerate((line.strip() for line in lines), start=1):
        if not name or names.setdefault(name, number) != number:
            raise AnnotationError(file, number, f"expected the name of another class, got {name!r}")
    return tuple(names)
