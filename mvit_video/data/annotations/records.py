"""JSON lines, JSON arrays and Parquet files, including the manifest of a scan."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.json
from numpy.typing import NDArray
from pyarrow import parquet

from mvit_video.data.annotations.lines import Lines
from mvit_video.data.table.classes import ClassNames
from mvit_video.data.table.labels import LABEL_SPANS, LABEL_SPANS_TYPE, is_label_spans, label_text
from mvit_video.data.table.rows import Rows, select
from mvit_video.jobs.arrow import as_strings, compute, is_list, is_string, is_utf8, joined, to_mask
from mvit_video.jobs.foreign import read_parquet_table
from mvit_video.types import AnnotationError

PARQUET_MAGIC = b"PAR1"
INDEX_FOLDER = "index"

_CHUNK = 65_536


def read_jsonl(lines: Lines, *, need_labels: bool = True) -> Rows:
    """Read videos `{"path": ..., "label": ...}`, one object per line."""
    quickly = _read_quickly(lines)
    if quickly is not None:
        return quickly

    def records() -> Iterator[Any]:
        for i in range(len(lines)):
            try:
                yield json.loads(lines.line(i))
            except (ValueError, RecursionError):
                raise lines.error(i, f"is not a JSON object, got {lines.line(i)[:80]!r}") from None

    return _from_records(records(), Rows(lines.file, lines.numbers, lines.text, lines.text), need_labels)


def read_records(file: Path, records: list[Any], *, need_labels: bool = True) -> Rows:
    """Read videos of a JSON array of objects."""
    numbers = np.arange(1, len(records) + 1)
    nothing = pa.nulls(len(records), pa.large_string())
    return _from_records(records, Rows(file, numbers, nothing, nothing, unit="record"), need_labels)


def read_parquet(file: Path, *, need_labels: bool = True) -> Rows:
    """Read videos of a Parquet file; if it has a column `status`, only rows with "ok".

    Its metadata may have `root`, the folder of relative paths, and `class_names`, a JSON list. The packet indices of a
    scan are in the folder `index` beside its manifest.
    """
    wanted = ["path", "label", "labels", "start", "end", "status", LABEL_SPANS]
    table, metadata = read_parquet_table(file, wanted=wanted)
    columns = {name: joined(table.column(name)) for name in table.column_names}
    labels = columns.get("labels", columns.get("label", None if need_labels else pa.nulls(len(table))))
    if "path" not in columns or labels is None:
        names = parquet.read_schema(file).names
        raise AnnotationError(file, 0, f"has the columns {', '.join(names)}; it needs path and label or labels")
    if not is_string(columns["path"].type):
        raise AnnotationError(file, 0, f"column path has type {columns['path'].type}, not strings")
    values = labels.type.value_type if is_list(labels.type) else labels.type
    is_number = pa.types.is_integer(values) or pa.types.is_floating(values)
    if not (is_string(values) or is_number or pa.types.is_null(values)):
        raise AnnotationError(file, 0, f"column label has type {labels.type}, not class names or class numbers")
    rows = Rows(
        file,
        np.arange(1, len(table) + 1),
        columns["path"],
        labels,
        _parquet_spans(file, columns, len(table)),
        classes=_metadata_classes(file, metadata),
        root=Path(metadata["root"]) if "root" in metadata else None,
        label_spans=columns.get(LABEL_SPANS),
        are_lists="labels" in columns and is_string(labels.type),
        unit="row",
    )
    if "status" in columns:
        if not is_string(columns["status"].type):
            kind = columns["status"].type
            raise AnnotationError(file, 0, f'column status has type {kind}, not strings such as "ok"')
        index = file.parent / INDEX_FOLDER
        rows = replace(rows, index_cache=index if index.is_dir() else None)
        is_ok = to_mask(compute.equal(columns["status"], "ok"))
        if len(rows) and not is_ok.any():
            raise AnnotationError(file, 0, f"none of its {len(rows)} rows has the status ok: no video can be used")
        rows = select(rows, is_ok)
    return rows


def _read_quickly(lines: Lines) -> Rows | None:
    """Read rows with Arrow; None if it cannot, or if a label is missing."""
    if not len(lines):
        return None
    name = "labels" if '"labels"' in lines.line(0) else "label"
    if (name == "label" and b'"labels"' in lines.data) or LABEL_SPANS.encode() in lines.data:
        return None
    data = pa.py_buffer(lines.data)[int(lines.starts[0]) :]
    for kind in (pa.int64(), pa.large_string(), pa.list_(pa.int64()), pa.list_(pa.large_string())):
        fields = {"path": pa.large_string(), name: kind, "start": pa.float64(), "end": pa.float64()}
        options = pyarrow.json.ParseOptions(pa.schema(fields), unexpected_field_behavior="ignore")
        try:
            table = pyarrow.json.read_json(pa.BufferReader(data), pyarrow.json.ReadOptions(use_threads=False), options)
            path, label, *seconds = (joined(table.column(field)) for field in fields)
            for column in (path, label):
                column.validate(full=True)  # JSON may have lone surrogates
        except pa.ArrowException:
            continue
        if len(table) != len(lines) or path.null_count or label.null_count:
            return None
        spans = np.stack([column.to_numpy(zero_copy_only=False) for column in seconds], axis=1)
        return Rows(lines.file, lines.numbers, path, label, spans)
    return None


class _Record(NamedTuple):
    path: str
    label: str | list[str] | None
    start: float
    end: float
    label_spans: list[list[float]] | None


def _from_records(records: Iterable[Any], rows: Rows, need_labels: bool) -> Rows:
    """Fill rows from records in chunks, so that few are Python objects at a time."""
    paths: list[pa.Array] = []
    labels: list[pa.Array] = []
    spans: list[NDArray[np.float64]] = []
    label_spans: list[pa.Array] = []
    is_multilabel: bool | None = None
    chunk: list[_Record] = []

    def flush() -> None:
        kind = pa.large_list(pa.large_string()) if is_multilabel else pa.large_string()
        paths.append(as_strings([record.path for record in chunk]))
        labels.append(pa.array([record.label for record in chunk], kind))
        spans.append(np.array([(record.start, record.end) for record in chunk], np.float64).reshape(-1, 2))
        label_spans.append(pa.array([record.label_spans for record in chunk], LABEL_SPANS_TYPE))
        chunk.clear()

    for row, record in enumerate(records):
        parsed = _parse(record, row, rows, need_labels)
        if parsed.label is not None:
            if is_multilabel is None:
                is_multilabel = isinstance(parsed.label, list)
            if is_multilabel != isinstance(parsed.label, list):
                raise rows.error(row, "mixes single labels and lists of labels; write a list for each video")
        chunk.append(parsed)
        if len(chunk) == _CHUNK:
            flush()
    flush()
    if is_multilabel:  # the type was unknown in parts before the first label
        labels = [part if is_list(part.type) else pa.nulls(len(part), labels[-1].type) for part in labels]
    return replace(
        rows,
        paths=pa.concat_arrays(paths),
        labels=pa.concat_arrays(labels),
        spans=np.concatenate(spans),
        label_spans=pa.concat_arrays(label_spans),
    )


def _parse(record: Any, row: int, rows: Rows, need_labels: bool) -> _Record:
    if isinstance(record, str) and not need_labels:
        record = {"path": record}
    if not isinstance(record, dict):
        raise rows.error(row, f"expected an object with path and label, got {str(record)[:80]!r}")
    path, label = record.get("path"), record.get("labels", record.get("label"))
    if not isinstance(path, str) or not is_utf8(path):
        raise rows.error(row, f'"path" must be a string, got {path!r}')
    if need_labels and "label" not in record and "labels" not in record:
        raise rows.error(row, 'has no "label"; null is unknown')
    if label is not None:
        label = [_label(one, row, rows) for one in label] if isinstance(label, list) else _label(label, row, rows)
    times = record.get(LABEL_SPANS)
    if times is not None and not is_label_spans(times):
        raise rows.error(row, f'"{LABEL_SPANS}" must be a list of seconds for each label, got {repr(times)[:80]}')
    return _Record(path, label, _seconds(record, "start", row, rows), _seconds(record, "end", row, rows), times)


def _label(value: Any, row: int, rows: Rows) -> str:
    text = label_text(value)
    if text is None:
        raise rows.error(row, f"a label must be a class name or a class number, got {repr(value)[:80]}")
    return text


def _seconds(record: dict[str, Any], name: str, row: int, rows: Rows) -> float:
    value = record.get(name)
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise rows.error(row, f'"{name}" must be a number of seconds, got {value!r}')
    return float(value)


def _parquet_spans(file: Path, columns: dict[str, pa.Array], num_rows: int) -> NDArray[np.float64] | None:
    if not columns.keys() & {"start", "end"}:
        return None
    spans = np.full((num_rows, 2), np.nan)
    for i, name in enumerate(("start", "end")):
        if name in columns:
            try:
                spans[:, i] = columns[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                raise AnnotationError(file, 0, f"column {name} has type {columns[name].type}, not seconds") from None
    return spans


def _metadata_classes(file: Path, metadata: dict[str, str]) -> ClassNames | None:
    if "class_names" not in metadata:
        return None
    try:
        names = json.loads(metadata["class_names"])
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise AnnotationError(file, 0, f"class_names is not a list of names, got {metadata['class_names'][:80]!r}")
    return ClassNames(tuple(names), str(file))
