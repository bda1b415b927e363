"""Files of results in a run folder, beside its predictions: names and writers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from mvit_video.jobs.files import atomic_write, write_rows

METRICS = "metrics.json"
CONFUSION = "confusion.parquet"
FAILURES = "failures.csv"
DECODING = "decoding.csv"
ROBUSTNESS, ROBUSTNESS_KEY = "robustness.parquet", "robustness.json"
LOG = "metrics.csv"


def write_failures(path: Path, failures: Iterable[tuple[str, str]]) -> None:
    """Write path and reason of each video that failed."""
    with atomic_write(path) as unfinished:
        write_rows(unfinished, [("path", "reason"), *failures])


def write_confusion(path: Path, cells: NDArray, class_names: Sequence[str] | None) -> None:
    """Write `label`, `prediction` and `num_videos` of each pair of classes, with the class names as metadata.

    Args:
        cells: `(C, C)` number of videos of each label and each prediction.
    """
    label, prediction = cells.nonzero()
    metadata = {"num_classes": str(len(cells))}
    if class_names is not None:
        metadata["class_names"] = json.dumps(class_names)
    columns = {"label": label, "prediction": prediction, "num_videos": cells[label, prediction]}
    with atomic_write(path) as unfinished:
        parquet.write_table(pa.table(columns, metadata=metadata), unfinished)
