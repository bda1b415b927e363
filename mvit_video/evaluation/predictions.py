"""The files a test leaves: `metrics.json`, `predictions.parquet`, `confusion.parquet`, and perhaps `failures.csv`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from mvit_video.data import VideoTable
from mvit_video.evaluation.result import Evaluation
from mvit_video.jobs import atomic_write, write_rows

_ROWS_PER_GROUP = 1024


def write_predictions(path: Path, evaluation: Evaluation, *, with_views: bool = True) -> None:
    """Writes one row per video of the table, in its order, in one move.

    Columns: `path`; `start` and `end` in seconds, null for a whole video, and `end` alone where a part reaches to the
    last frame; `label`, -1 where unknown, or a list of classes; `prediction`, the most probable class, -1 without a
    score; `probabilities`; `num_views`; `status`, "ok" or why there is no score; `backend` that decoded, and whether it
    reports `damaged` frames, null where it does not tell; whether the video is `too_short` for a clip, so that frames
    were repeated; and, with `with_views`, `view_scores`, one list per view in half precision, and `clip_seconds`, when
    the first and the last frame of each view begin. Lists are null without a score. The schema's metadata hold the
    setting of the test, each value as text, `root` (folder of relative paths), `class_names` (JSON list, when known),
    and what `view_scores` are: probabilities or logits.
    """
    table, setting = evaluation.table, evaluation.setting
    place = np.full(len(table), -1)
    place[evaluation.views.video.numpy()] = np.arange(len(evaluation.views.video))
    metadata = {
        "root": str(table.root.absolute()),
        **{key: str(value) for key, value in setting.record().items()},
        "view_scores": "logits" if setting.ensemble == "logit_mean" else "probabilities",
    }
    if table.class_names is not None:
        metadata["class_names"] = json.dumps(table.class_names)

    with atomic_write(path) as unfinished:
        writer = None
        for start in range(0, max(len(table), 1), _ROWS_PER_GROUP):
            rows = slice(start, min(start + _ROWS_PER_GROUP, len(table)))
            group = pa.table(_columns(evaluation, rows, place[rows], with_views), metadata=metadata)
            writer = writer or parquet.ParquetWriter(unfinished, group.schema)
            writer.write_table(group)
        assert writer is not None
        writer.close()


def _columns(evaluation: Evaluation, rows: slice, place: NDArray[np.int64], with_views: bool) -> dict[str, pa.Array]:
    table, views = evaluation.table, evaluation.views
    numbers, has_score = range(rows.start, rows.stop), place >= 0
    spans = np.full((len(place), 2), np.nan) if table.spans is None else table.spans[rows]
    labels = table.labels[rows] if table.multi_labels is None else table.multi_labels[rows]
    scored = evaluation.probabilities[place[has_score]].numpy()
    decodings = [evaluation.decodings.get(row) for row in numbers]
    prediction = np.full(len(place), -1)
    prediction[has_score] = evaluation.prediction[place[has_score]].numpy()
    columns = {
        "path": table.paths[rows],
        "start": pa.array(spans[:, 0], mask=np.isnan(spans[:, 0])),
        "end": pa.array(spans[:, 1], mask=~np.isfinite(spans[:, 1])),
        "label": pa.array(labels),
        "prediction": pa.array(prediction),
        "probabilities": _lists(scored, has_score),
        "num_views": pa.array(np.where(has_score, views.scores.shape[1], 0)),
        "status": pa.array([_status(evaluation, row) for row in numbers]),
        "backend": pa.array([one and one.backend for one in decodings], pa.string()),
        "damaged": pa.array([one and one.damaged for one in decodings], pa.bool_()),
        "too_short": pa.array([one and one.too_short for one in decodings], pa.bool_()),
    }
    if with_views:
        columns["view_scores"] = _lists(views.scores[place[has_score]].half().numpy(), has_score)
        if views.seconds is None:
            columns["clip_seconds"] = pa.nulls(len(place), pa.list_(pa.list_(pa.float64())))
        else:
            columns["clip_seconds"] = _lists(views.seconds[place[has_score]], has_score)
    return columns


def _status(evaluation: Evaluation, row: int) -> str:
    if row in evaluation.left_out:
        return "left out by trainer.limit_test_batches"
    return evaluation.failures.get(row, "ok")


def _lists(values: NDArray[Any], is_there: NDArray[np.bool_]) -> pa.ListArray:
    """Rows of an array as lists, nested where it has more than two axes; null where it has no row.

    Lists of a fixed size with nulls cannot be read back by every pyarrow.
    """
    inner: pa.Array = pa.array(values.reshape(-1))
    for axis in range(values.ndim - 1, 1, -1):
        number = int(np.prod(values.shape[:axis]))
        inner = pa.ListArray.from_arrays(pa.array(np.arange(number + 1) * values.shape[axis], pa.int32()), inner)
    ends = np.concatenate([[0], np.cumsum(is_there)]) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), inner, mask=pa.array(~is_there))


def write_failures(path: Path, table: VideoTable, failures: Mapping[int, str]) -> None:
    """Writes `path,reason` of each video that has no score, in the order of the table."""
    with atomic_write(path) as unfinished:
        write_rows(unfinished, [("path", "reason"), *((table.path(row), failures[row]) for row in sorted(failures))])


def write_confusion(path: Path, evaluation: Evaluation) -> None:
    """Writes `label`, `prediction` and `num_videos` of each pair of classes that occurs, names in the metadata."""
    cells = evaluation.confusion
    label, prediction = cells.nonzero(as_tuple=True)
    columns = {"label": label.numpy(), "prediction": prediction.numpy(), "num_videos": cells[label, prediction].numpy()}
    metadata = {"num_classes": str(len(cells))}
    if evaluation.table.class_names is not None:
        metadata["class_names"] = json.dumps(evaluation.table.class_names)
    table = pa.table(columns, metadata=metadata)
    with atomic_write(path) as unfinished:
        parquet.write_table(table, unfinished)


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Writes JSON."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
