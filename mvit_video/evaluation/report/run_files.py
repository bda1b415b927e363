"""What a test left in its folder, as far as it is there."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from mvit_video.runs.predictions import Predictions, load_predictions

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class RunFiles:
    """The files of a run; those that are absent or damaged are None, and `notes` says so.

    Attributes:
        labels: the classes of each video, in the order of `predictions.keys`; none where they are unknown.
        status: "ok" or why a video has no score.
        damaged: whether errors were concealed in a video's frames.
        too_short: whether a video has less than one clip.
        metrics: `metrics.json`.
        record: `run.json`.
        config: the text of `config.yaml`.
        decoding: rows of `decoding.csv`.
        robustness: rows of `robustness.parquet`.
        gigaflops: giga multiply-adds of one view, as `robustness.parquet` says.
    """

    folder: Path
    predictions: Predictions
    labels: list[list[int]]
    status: list[str]
    damaged: NDArray[np.bool_]
    too_short: NDArray[np.bool_]
    metrics: dict[str, Any] | None
    record: dict[str, Any] | None
    config: str | None
    decoding: list[dict[str, str]] | None
    robustness: list[dict[str, Any]] | None
    gigaflops: float | None
    notes: tuple[str, ...]


def read_run(source: str | Path, class_names: Sequence[str] | None = None) -> RunFiles:
    """Reads the folder of a test.

    Args:
        source: the folder, or the `predictions.parquet` in it.
        class_names: name of each class; None takes those that the test recorded.

    Raises:
        ConfigError: there are no predictions, or of another number of classes.
        MVitVideoError: they cannot be read.
    """
    predictions = load_predictions(source, class_names)
    folder = predictions.file.parent
    notes: list[str] = []
    lacking: list[str] = []

    def read(name: str, parse: Callable[[Path], T]) -> T | None:
        try:
            return parse(folder / name)
        except FileNotFoundError:
            lacking.append(name)
        except (OSError, ValueError, pa.ArrowException) as error:
            notes.append(f"{name} cannot be read: {' '.join(str(error).split())}.")
        return None

    metrics = read("metrics.json", _read_object)
    record = read("run.json", _read_object)
    config = read("config.yaml", lambda path: path.read_text("utf-8", "replace"))
    decoding = read("decoding.csv", _read_csv)
    names = "robustness.parquet", "studies.parquet"  # the second is that of earlier versions
    name = next((name for name in names if (folder / name).exists()), names[0])
    robustness, gigaflops = read(name, _read_robustness) or (None, None)
    if absent := [name for name in lacking if name not in names]:  # a test does not leave these
        notes.insert(0, f"Not in the folder, so that what they tell is lacking here: {', '.join(absent)}.")
    num_scored = int(predictions.scored.sum())
    told = None if metrics is None else metrics.get("videos", {}).get("scored")
    if told is not None and told != num_scored:
        notes.append(
            f"metrics.json speaks of {told:,} scored videos, predictions.parquet of {num_scored:,}: they are of "
            "different tests."
        )
    return RunFiles(
        folder=folder,
        predictions=predictions,
        labels=_labels(predictions),
        status=_column(predictions, "status", "").to_pylist(),
        damaged=_flags(predictions, "damaged"),
        too_short=_flags(predictions, "too_short"),
        metrics=metrics,
        record=record,
        config=config,
        decoding=decoding,
        robustness=robustness,
        gigaflops=gigaflops,
        notes=tuple(notes),
    )


def _read_object(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text("utf-8"), parse_constant=lambda _: None)  # a page has no NaN
    if not isinstance(value, dict):
        raise ValueError(f"an object was expected, not {type(value).__name__}")
    return value


def _read_robustness(path: Path) -> tuple[list[dict[str, Any]], float | None]:
    columns = ["study", "setting", "severity", "metric", "value", "low", "high"]
    table = parquet.read_table(path, columns=columns)
    rows = [{key: _finite(value) for key, value in row.items()} for row in table.to_pylist()]
    told = (table.schema.metadata or {}).get(b"gigaflops_per_view")
    return rows, None if told is None else _finite(float(told))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.DictReader(file))


def _column(predictions: Predictions, name: str, default: Any) -> pa.ChunkedArray:
    """A column of the predictions; the default for each video where an earlier version did not write it."""
    if name not in parquet.read_schema(predictions.file).names:
        return pa.chunked_array([pa.array([default] * len(predictions.keys))])
    return parquet.read_table(predictions.file, columns=[name])[name]


def _flags(predictions: Predictions, name: str) -> NDArray[np.bool_]:
    return _column(predictions, name, False).fill_null(False).to_numpy()


def _labels(predictions: Predictions) -> list[list[int]]:
    if predictions.is_multilabel:
        return [classes or [] for classes in _column(predictions, "label", None).to_pylist()]
    return [[label] if label >= 0 else [] for label in predictions.label.tolist()]
