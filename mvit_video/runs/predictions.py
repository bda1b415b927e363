"""Predictions of a test, `predictions.parquet`: columns, writer and reader."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet, types

from mvit_video.jobs.arrow import compute, is_list, is_string
from mvit_video.jobs.files import atomic_write
from mvit_video.jobs.foreign import read_parquet_column, read_parquet_table
from mvit_video.types import ConfigError, MVitVideoError

PREDICTIONS = "predictions.parquet"
Key = tuple[str, float | None, float | None]
_ROWS_AT_ONCE = 1024
# scores of a data set that a file may claim however small it is, since a net that gives all videos the same takes no
# space: 250 MB of probabilities, and of the views, which are never all in memory, 10 clips x 3 crops of Kinetics-400
_FREE_SCORES, _FREE_VIEW_SCORES = 2**26, 2**28


class Column(NamedTuple):
    """A column of predictions.

    Attributes:
        is_fit: returns whether the column may have a type.
        expected: the types in words.
        is_required: every version and every verb writes it.
    """

    is_fit: Callable[[pa.DataType], bool]
    expected: str
    is_required: bool = True


def _is_lists(kind: pa.DataType, depth: int) -> bool:
    for _ in range(depth):
        if not is_list(kind):
            return False
        kind = kind.value_type
    return types.is_floating(kind)


def _is_label(kind: pa.DataType) -> bool:
    return types.is_integer(kind.value_type if is_list(kind) else kind)


def _is_seconds(kind: pa.DataType) -> bool:
    return types.is_floating(kind) or types.is_null(kind)


COLUMNS = {
    # of the video, relative to `root` of the metadata
    "path": Column(is_string, "text"),
    # seconds of the part that counts; null for a whole video, and `end` alone where it reaches to the last frame
    "start": Column(_is_seconds, "numbers"),
    "end": Column(_is_seconds, "numbers"),
    # class, -1 where unknown, or a list of classes
    "label": Column(_is_label, "whole numbers or lists of them"),
    # most probable class, -1 without a score
    "prediction": Column(types.is_integer, "whole numbers"),
    # of each class; null without a score, as are the lists below
    "probabilities": Column(lambda kind: _is_lists(kind, 1), "lists of numbers"),
    "num_views": Column(types.is_integer, "whole numbers", is_required=False),
    # "ok", or why there is no score
    "status": Column(is_string, "text"),
    # library that decoded; null where it did not
    "backend": Column(is_string, "text", is_required=False),
    # whether errors were concealed in the frames; null where the library does not report it
    "damaged": Column(types.is_boolean, "true or false", is_required=False),
    # whether the video has less than one clip, so that frames were repeated
    "too_short": Column(types.is_boolean, "true or false", is_required=False),
    # one list per view, in half precision: probabilities or logits, as `view_scores` of the metadata says
    "view_scores": Column(lambda kind: _is_lists(kind, 2), "lists of lists of numbers", is_required=False),
    # times of the first and the last frame of each view
    "clip_seconds": Column(lambda kind: _is_lists(kind, 2), "lists of lists of numbers", is_required=False),
}
_REQUIRED = [name for name, column in COLUMNS.items() if column.is_required]


def in_words(key: Key) -> str:
    """Return a video's path, and the part of it that counts."""
    path, start, end = key
    if start is None:
        return path
    return f"{path} ({start:g} seconds to {'the end' if end is None else f'{end:g}'})"


def save_predictions(
    path: Path,
    groups: Iterable[Mapping[str, Any]],
    setting: Mapping[str, Any],
    class_names: Sequence[str] | None = None,
) -> None:
    """Write a row per video, complete or not at all.

    Args:
        groups: columns of a few rows each, as `COLUMNS` names them, at least one group; it may have no rows.
        setting: of the test, kept as text in the metadata: `num_clips`, and `root` where paths are relative.
    """
    metadata = {name: str(value) for name, value in setting.items()}
    if class_names is not None:
        metadata["class_names"] = json.dumps(list(class_names))
    with ExitStack() as stack:
        unfinished, writer = stack.enter_context(atomic_write(path)), None
        for group in groups:
            table = pa.table(dict(group), metadata=metadata)
            _check(path, table.schema, metadata)
            writer = writer or stack.enter_context(parquet.ParquetWriter(unfinished, table.schema))
            writer.write_table(table)


def list_column(values: NDArray[Any], is_there: NDArray[np.bool_]) -> pa.ListArray:
    """Return the rows of an array as lists, nested where it has more than two axes; null where it has no row.

    Lists of a fixed size with nulls cannot be read back by every pyarrow.
    """
    inner: pa.Array = pa.array(values.reshape(-1))
    for axis in range(values.ndim - 1, 1, -1):
        number = int(np.prod(values.shape[:axis]))
        inner = pa.ListArray.from_arrays(pa.array(np.arange(number + 1) * values.shape[axis], pa.int32()), inner)
    ends = np.concatenate([[0], np.cumsum(is_there)]) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), inner, mask=pa.array(~is_there))


@dataclass(frozen=True, eq=False)
class Predictions:
    """Content of a `predictions.parquet`; the scores of views are read on demand.

    Attributes:
        keys: path, start and end of each video; a start without an end reaches to the last frame.
        label: int64 class of each video; -1 where unknown, and everywhere when videos have several.
        labels: classes of each video; none where unknown.
        scored: whether a video has finite scores.
        probabilities: `(videos, classes)` of the scored videos only.
        status: "ok" or why a video has no score.
        class_names: name of each class, when known.
        metadata: the setting of the test, as text.
    """

    file: Path
    keys: list[Key]
    label: NDArray[np.int64]
    prediction: NDArray[np.int64]
    scored: NDArray[np.bool_]
    probabilities: NDArray[np.float32]
    status: list[str]
    is_multilabel: bool
    class_names: list[str] | None
    metadata: dict[str, str]
    _labels: pa.Array

    @cached_property
    def labels(self) -> list[list[int]]:
        """Classes of each video; none where unknown."""
        if self.is_multilabel:
            return [classes or [] for classes in self._labels.to_pylist()]
        return [[label] if label >= 0 else [] for label in self.label.tolist()]

    def flags(self, name: str) -> NDArray[np.bool_]:
        """Return `damaged` or `too_short` of each video; false where unknown."""
        table, _ = read_parquet_table(self.file, wanted=[name])
        if name not in table.column_names:
            return np.zeros(len(self.keys), np.bool_)
        _check_types(self.file, table.schema)
        return table[name].combine_chunks().fill_null(False).to_numpy(zero_copy_only=False)

    def view_scores(self, wanted: NDArray[np.bool_]) -> Iterator[NDArray[np.float32]]:
        """Yield the scores of the views of the wanted videos, in order, `(videos, views, classes)` of a few at a time.

        Raises:
            MVitVideoError: they were not kept, or are of different numbers of views.
        """
        start = 0
        for column in read_parquet_column(self.file, "view_scores", _ROWS_AT_ONCE, _FREE_VIEW_SCORES):
            _check_types(self.file, pa.schema([("view_scores", column.type)]))
            rows = column.filter(pa.array(wanted[start : start + len(column)]))
            start += len(column)
            if len(rows):
                inner = rows.flatten()
                scores = inner.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
                views = _width(self.file, "view_scores", rows)
                yield scores.reshape(len(rows), views, _width(self.file, "view_scores", inner))
        if start != len(wanted):
            raise MVitVideoError(f"{self.file}: the scores of each view were not kept")


def load_predictions(source: str | Path, class_names: Sequence[str] | None = None) -> Predictions:
    """Read the predictions of a run, and refuse a file that claims more than its size can hold.

    Args:
        source: a run folder, or a `predictions.parquet`.
        class_names: name of each class; None takes the recorded names.

    Raises:
        ConfigError: there is no such file, or it has scores of another number of classes.
        MVitVideoError: it is damaged, or holds no predictions.
    """
    file = Path(source)
    if file.is_dir():
        file = file / PREDICTIONS
    if not file.exists():
        raise ConfigError(f"{source}: there is no {file.name} here; give the folder of a test, or its predictions")
    table, metadata = read_parquet_table(file, wanted=_REQUIRED, free_items=_FREE_SCORES)
    _check(file, table.schema, metadata)
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    label, prediction = columns["label"], columns["prediction"]
    is_multilabel = is_list(label.type)
    for name in ("path", "prediction", "status", *(() if is_multilabel else ("label",))):
        if columns[name].null_count:
            raise MVitVideoError(f"{file}: column {name} has rows without a value")
    scores = columns["probabilities"]
    prediction = prediction.to_numpy().astype(np.int64)
    scored = (prediction >= 0) & _are_finite(scores)
    rows = scores.filter(pa.array(scored))
    flat = rows.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    probabilities = flat.reshape(len(rows), _width(file, "probabilities", rows))
    found = Predictions(
        file=file,
        keys=list(zip(*(columns[name].to_pylist() for name in ("path", "start", "end")), strict=True)),
        label=np.full(len(table), -1) if is_multilabel else label.to_numpy().astype(np.int64),
        prediction=prediction,
        scored=scored,
        probabilities=probabilities,
        status=columns["status"].to_pylist(),
        is_multilabel=is_multilabel,
        class_names=_names_in(file, metadata) if class_names is None else list(class_names),
        metadata=metadata,
        _labels=label,
    )
    _check_classes(found, label.flatten() if is_multilabel else label)
    num_classes = probabilities.shape[1]
    if class_names is not None and num_classes not in (0, len(class_names)):
        raise ConfigError(f"class_names holds {len(class_names)} names, {file} has scores of {num_classes} classes")
    return found


def _check(file: Path, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
    """Refuse a file without the columns or the setting of predictions."""
    missing = [name for name in _REQUIRED if name not in schema.names]
    if missing or "num_clips" not in metadata:
        name = missing[0] if missing else "num_clips"
        raise MVitVideoError(
            f"{file}: these are no predictions of a test, {name} is missing; give the folder of a test"
        )
    _check_types(file, schema)


def _check_types(file: Path, schema: pa.Schema) -> None:
    for field in schema:
        column = COLUMNS.get(field.name)
        assert column is not None, f"COLUMNS does not state the column {field.name}"
        if not column.is_fit(field.type):
            raise MVitVideoError(f"{file}: column {field.name} holds {field.type}, expected {column.expected}")


def _check_classes(found: Predictions, label: pa.Array) -> None:
    """Refuse a class without scores."""
    num_classes = found.probabilities.shape[1]
    largest = max(compute.max(label).as_py() or 0, int(found.prediction.max(initial=0)))
    if num_classes and largest >= num_classes:
        raise MVitVideoError(f"{found.file}: class {largest} is named, the scores are of {num_classes} classes")


def _width(file: Path, name: str, lists: pa.Array) -> int:
    """Return the length of every list; 0 without a list."""
    lengths = compute.list_value_length(lists).to_numpy(zero_copy_only=False)
    if len(lengths) and (lengths != lengths[0]).any():
        raise MVitVideoError(f"{file}: column {name} holds lists of different lengths")
    return int(lengths[0]) if len(lengths) else 0


def _are_finite(lists: pa.Array) -> NDArray[np.bool_]:
    """Return for each row whether it has a list without NaN or infinity."""
    is_bad = ~np.isfinite(lists.flatten().to_numpy(zero_copy_only=False))
    finite = lists.is_valid().to_numpy(zero_copy_only=False).copy()
    finite[compute.list_parent_indices(lists).to_numpy()[is_bad]] = False
    return finite


def _names_in(file: Path, metadata: Mapping[str, str]) -> list[str] | None:
    text = metadata.get("class_names", "null")
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = text
    if names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        return names
    raise MVitVideoError(f"{file}: its metadata have no list of names as class_names, got {text[:80]!r}")
