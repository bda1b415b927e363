"""Predictions of a test as columns of `predictions.parquet`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.evaluation.result import Evaluation
from mvit_video.runs.predictions import list_column, save_predictions

_ROWS_PER_GROUP = 1024


def write_predictions(path: Path, evaluation: Evaluation, *, with_views: bool = True) -> None:
    """Write one row per video of the table, in its order; see `mvit_video.runs.predictions.COLUMNS`.

    Args:
        with_views: the scores of each view too.
    """
    table, setting = evaluation.table, evaluation.setting
    place = np.full(len(table), -1)
    place[evaluation.views.video.numpy()] = np.arange(len(evaluation.views.video))
    settings = {
        "root": table.root.absolute(),
        **setting.record(),
        "view_scores": "logits" if setting.ensemble == "logit_mean" else "probabilities",
    }
    starts = range(0, max(len(table), 1), _ROWS_PER_GROUP)  # one group at least
    groups = (slice(start, min(start + _ROWS_PER_GROUP, len(table))) for start in starts)
    columns = (_columns(evaluation, rows, place[rows], with_views) for rows in groups)
    save_predictions(path, columns, settings, table.class_names)


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
        "probabilities": list_column(scored, has_score),
        "num_views": pa.array(np.where(has_score, views.scores.shape[1], 0)),
        "status": pa.array([_status(evaluation, row) for row in numbers]),
        "backend": pa.array([one and one.backend for one in decodings], pa.string()),
        "damaged": pa.array([one and one.damaged for one in decodings], pa.bool_()),
        "too_short": pa.array([one and one.too_short for one in decodings], pa.bool_()),
    }
    if with_views:
        columns["view_scores"] = list_column(views.scores[place[has_score]].half().numpy(), has_score)
        if views.seconds is None:
            columns["clip_seconds"] = pa.nulls(len(place), pa.list_(pa.list_(pa.float64())))
        else:
            columns["clip_seconds"] = list_column(views.seconds[place[has_score]], has_score)
    return columns


def _status(evaluation: Evaluation, row: int) -> str:
    if row in evaluation.left_out:
        return "left out by trainer.limit_test_batches"
    return evaluation.failures.get(row, "ok")
