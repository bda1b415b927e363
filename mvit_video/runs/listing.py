"""List of the runs in a folder: date, model, best metric and state of each."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from mvit_video.jobs.files import read_json_object
from mvit_video.jobs.yaml_files import read_yaml
from mvit_video.runs.record import RECORD, State, read_record, state_of
from mvit_video.runs.results import LOG, METRICS
from mvit_video.types import ConfigError

_BEST = {"val/top1": max, "val/mAP": max, "val/loss": min, "train/loss_epoch": min}  # the first that a run logged
_OF_TEST = ("top1", "mAP")


class RunSummary(NamedTuple):
    """A run.

    Attributes:
        name: path below the listed folder.
        started: local time; None where unknown.
        model: name of the builder function of the net, where the config states it.
        metric: name of the best metric, such as "val/top1"; empty without one.
        value: best value of the metric; NaN without one.
    """

    name: str
    started: datetime | None
    model: str
    metric: str
    value: float
    state: State


def find_runs(folder: Path) -> list[RunSummary]:
    """Return the runs in a folder and up to two levels below it, the newest first.

    Raises:
        ConfigError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"folder={folder}: there is no such folder; give the folder of the runs")
    files = (file for pattern in ("", "*/", "*/*/") for file in folder.glob(f"{pattern}{RECORD}"))
    runs = [_summary(file.parent, folder) for file in files]
    return sorted(runs, key=lambda run: (run.started.timestamp() if run.started else 0.0, run.name), reverse=True)


def _summary(run: Path, root: Path) -> RunSummary:
    record: dict[str, Any] = {}
    with suppress(OSError, ValueError):  # damaged, or another program is at it
        record = read_record(run)
    started = None
    with suppress(ValueError, TypeError):
        started = datetime.fromisoformat(record.get("started", "")).astimezone()
    name = run.relative_to(root).as_posix()
    metric, value = next(_metrics(run), ("", float("nan")))
    return RunSummary(run.name if name == "." else name, started, _model(run), metric, value, state_of(run, record))


def _model(run: Path) -> str:
    try:
        net = read_yaml(run / "config.yaml")["model"]["net"]
    except (ConfigError, KeyError, TypeError):
        return ""
    path = net.get("class_path") if isinstance(net, dict) else net
    return str(path or "").rpartition(".")[2]


def _metrics(run: Path) -> Iterator[tuple[str, float]]:
    """Yield the headline metrics of a test, or the best ones of a training."""
    with suppress(OSError, ValueError):
        found = read_json_object(run / METRICS).get("metrics")
        for name in _OF_TEST:
            if isinstance(found, dict) and isinstance(found.get(name), int | float):
                yield f"test/{name}", found[name]
    with (
        suppress(OSError, csv.Error),
        (run / LOG).open(newline="", encoding="utf-8", errors="replace") as file,
    ):
        rows = list(csv.DictReader(file))
        for name, best in _BEST.items():
            if values := [value for row in rows if (value := _number(row.get(name))) is not None]:
                yield name, best(values)


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if value == value else None
