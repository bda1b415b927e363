"""The files a test leaves: `predictions.parquet`, and `failures.csv` when something failed."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from mvit_video.data.annotations import VideoTable
from mvit_video.evaluation.metrics import VideoPredictions
from mvit_video.types import ViewSpec


def write_predictions(
    path: Path,
    table: VideoTable,
    videos: VideoPredictions,
    failures: Mapping[int, str],
    *,
    views: ViewSpec,
    frame_order: str,
) -> None:
    """Writes one row per video of the table, in its order, in one move.

    Columns: `path`, `label` (-1 where unknown), `prediction` (-1 without a score), `probabilities` (null without a
    score), `num_views`, `status` ("ok" or why there is no score). The schema's metadata hold `root` (folder of
    relative paths), `class_names` (JSON list, when known), `num_clips`, `num_crops` and `frame_order`.

    Args:
        failures: reason of each video that has no score, by row.
    """
    num_videos = len(table)
    prediction, num_views = [-1] * num_videos, [0] * num_videos
    probabilities: list[object] = [None] * num_videos
    for row, best, count, scores in zip(
        videos.video.tolist(), videos.prediction.tolist(), videos.num_views.tolist(), videos.probabilities.numpy(),
        strict=True,
    ):  # fmt: skip
        prediction[row], num_views[row], probabilities[row] = best, count, scores
    metadata = {
        "root": str(table.root.absolute()),
        "num_clips": str(views.num_clips),
        "num_crops": str(views.num_crops),
        "frame_order": frame_order,
    }
    if table.class_names is not None:
        metadata["class_names"] = json.dumps(table.class_names)
    # lists of a fixed size with nulls cannot be read back by every pyarrow
    columns = {
        "path": table.paths,
        "label": pa.array(table.labels, pa.int64()),
        "prediction": pa.array(prediction, pa.int64()),
        "probabilities": pa.array(probabilities, pa.list_(pa.float32())),
        "num_views": pa.array(num_views, pa.int64()),
        "status": pa.array([failures.get(row, "ok") for row in range(num_videos)]),
    }
    unfinished = path.with_name(f".{path.name}")
    parquet.write_table(pa.table(columns, metadata=metadata), unfinished)
    os.replace(unfinished, path)


def write_failures(path: Path, table: VideoTable, failures: Mapping[int, str]) -> None:
    """Writes `path,reason` of each video that has no score, in the order of the table."""
    unfinished = path.with_name(f".{path.name}")
    with unfinished.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason"])
        writer.writerows([table.path(row), failures[row]] for row in sorted(failures))
    os.replace(unfinished, path)
