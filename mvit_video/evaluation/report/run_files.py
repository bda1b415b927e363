"""What a test left in its folder, as far as it is there."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mvit_video.jobs.foreign import read_parquet_table
from mvit_video.jobs.json_files import read_json_object
from mvit_video.runs.folder import CONFIG
from mvit_video.runs.predictions import Predictions, load_predictions
from mvit_video.runs.record import RECORD, read_record
from mvit_video.types import AnnotationError

T = TypeVar("T")
_OF_ROBUSTNESS = ("study", "setting", "severity", "metric", "value", "low", "high")


@dataclass(frozen=True, eq=False)
class RunFiles:
    """The files of a run; those that are absent or damaged are None, and `notes` says so.

    Attributes:
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
    """Read the folder of a test, as `write_report` takes it."""
    predictions = load_predictions(source, class_names)
    folder = predictions.file.parent
    notes: list[str] = []
    lacking: list[str] = []

    def read(name: str, parse: Callable[[Path], T]) -> T | None:
        try:
            return parse(folder / name)
        except FileNotFoundError:
            lacking.append(name)
        except (OSError, ValueError, AnnotationError) as error:
            notes.append(f"{name} cannot be read: {' '.join(str(error).split())}.")
        return None

    metrics = read("metrics.json", read_json_object)
    record = read(RECORD, lambda path: read_record(path.parent))
    config = read(CONFIG, lambda path: path.read_text("utf-8", "replace"))
    decoding = read("decoding.csv", _read_csv)
    names = "robustness.parquet", "studies.parquet"  # the second is that of earlier versions
    name = next((name for name in names if (folder / name).exists()), names[0])
    robustness, gigaflops = read(name, _read_robustness) or (None, None)
    if absent := [name for name in lacking if name not in names]:  # a test does not leave these
        notes.insert(0, f"Not in the folder, so that what they tell is lacking here: {', '.join(absent)}.")
    num_scored = int(predictions.scored.sum())
    videos = None if metrics is None else metrics.get("videos")
    told = videos.get("scored") if isinstance(videos, dict) else None
    if isinstance(told, int) and told != num_scored:
        notes.append(
            f"metrics.json speaks of {told:,} scored videos, predictions.parquet of {num_scored:,}: they are of "
            "different tests."
        )
    return RunFiles(
        folder=folder,
        predictions=predictions,
        damaged=predictions.flags("damaged"),
        too_short=predictions.flags("too_short"),
        metrics=metrics,
        record=record,
        config=config,
        decoding=decoding,
        robustness=robustness,
        gigaflops=gigaflops,
        notes=tuple(notes),
    )


def _read_robustness(path: Path) -> tuple[list[dict[str, Any]], float | None]:
    if not path.exists():
        raise FileNotFoundError(path)
    table, metadata = read_parquet_table(path, wanted=_OF_ROBUSTNESS)
    if lacking := [name for name in _OF_ROBUSTNESS if name not in table.column_names]:
        raise ValueError(f"there is no column {lacking[0]}")
    rows = [{key: _finite(value) for key, value in row.items()} for row in table.to_pylist()]
    told = metadata.get("gigaflops_per_view")
    return rows, None if told is None else _finite(float(told))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.DictReader(file))
