"""The files that a test left in its folder."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mvit_video.jobs.files import read_json_object
from mvit_video.jobs.foreign import read_parquet_table
from mvit_video.jobs.yaml_files import parse_yaml
from mvit_video.runs.folder import CONFIG, run_with
from mvit_video.runs.predictions import Predictions, load_predictions
from mvit_video.runs.record import RECORD, read_record
from mvit_video.runs.results import DECODING, METRICS, ROBUSTNESS
from mvit_video.types import AnnotationError

T = TypeVar("T")
_OF_ROBUSTNESS = ("study", "setting", "severity", "metric", "value", "low", "high")


@dataclass(frozen=True, eq=False)
class RunFiles:
    """The files of a run; missing and damaged ones are None, and `notes` says so.

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

    @property
    def training(self) -> Path | None:
        """Folder of the training that saved the tested checkpoint."""
        checkpoint = (self.record or {}).get("checkpoint")
        file = self.find(checkpoint) if isinstance(checkpoint, str) else None
        return None if file is None else run_with(file)

    def find(self, name: str) -> Path | None:
        """Return the file of a path that the test was given, relative to here or to a folder above the run."""
        places = (place / name for place in (Path(), *self.folder.absolute().parents))
        return next((file for file in places if is_file(file)), None)

    @cached_property
    def _settings(self) -> Any:
        with suppress(ValueError):
            return parse_yaml(self.config or "")
        return None

    def settings(self, section: str) -> dict[str, Any]:
        """Return a section of `config.yaml`; empty where there is none."""
        found = self._settings.get(section) if isinstance(self._settings, dict) else None
        return found if isinstance(found, dict) else {}


def is_file(path: Path) -> bool:
    """Return whether a file exists, also for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_run(source: str | Path, class_names: Sequence[str] | None = None) -> RunFiles:
    """Read the folder of a test, as `write_report` takes it."""
    predictions = load_predictions(source, class_names)
    folder = predictions.file.parent
    notes: list[str] = []
    missing: list[str] = []

    def read(name: str, parse: Callable[[Path], T]) -> T | None:
        try:
            return parse(folder / name)
        except FileNotFoundError:
            missing.append(name)
        except (OSError, ValueError, AnnotationError) as error:
            notes.append(f"{name} cannot be read: {' '.join(str(error).split())}.")
        return None

    metrics = read(METRICS, read_json_object)
    record = read(RECORD, lambda path: read_record(path.parent))
    config = read(CONFIG, lambda path: path.read_text("utf-8", "replace"))
    decoding = read(DECODING, _read_csv)
    names = ROBUSTNESS, "studies.parquet"  # the second is that of earlier versions
    name = next((name for name in names if (folder / name).exists()), names[0])
    robustness, gigaflops = read(name, _read_robustness) or (None, None)
    if absent := [name for name in missing if name not in names]:  # a test does not leave these
        notes.insert(0, f"Missing files; their sections are left out: {', '.join(absent)}.")
    num_scored = int(predictions.scored.sum())
    videos = None if metrics is None else metrics.get("videos")
    counted = videos.get("scored") if isinstance(videos, dict) else None
    if isinstance(counted, int) and counted != num_scored:
        notes.append(
            f"metrics.json has {counted:,} scored videos, predictions.parquet {num_scored:,}: they are of different "
            "tests."
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
    if missing := [name for name in _OF_ROBUSTNESS if name not in table.column_names]:
        raise ValueError(f"there is no column {missing[0]}")
    rows = [{key: _finite(value) for key, value in row.items()} for row in table.to_pylist()]
    gigaflops = metadata.get("gigaflops_per_view")
    return rows, None if gigaflops is None else _finite(float(gigaflops))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.DictReader(file))
