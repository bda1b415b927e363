"""The top of the page: headline numbers, setting of the test, and links."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from mvit_video.evaluation.report.run_files import RunFiles
from mvit_video.evaluation.report.videos import ScoredVideos
from mvit_video.metrics.names import ACCURACIES, CALIBRATION, shown_metrics
from mvit_video.runs.folder import CONFIG
from mvit_video.runs.predictions import PREDICTIONS
from mvit_video.runs.record import RECORD
from mvit_video.runs.results import FAILURES, METRICS

_COUNTS = {
    "expected": "expected",
    "scored": "scored",
    "failed": "failed",
    "missing": "missing",
    "left_out": "excluded by a limit",
    "without_label": "without a label",
    "damaged": "damaged",
    "too_short": "too short for a clip",
    "repeated_views": "views repeated, counted once",
}
_ALWAYS_SHOWN = ("expected", "scored", "failed", "missing")
_BAD = ("failed", "missing")


class Card(NamedTuple):
    """A headline number.

    Attributes:
        detail: its interval, or a remark.
        look: CSS class of its colour.
    """

    value: str
    name: str
    detail: str = ""
    look: str = ""


class Link(NamedTuple):
    """A name and where it leads, relative to the page; None where there is no file."""

    text: str
    address: str | None


def cards(run: RunFiles, num_classes: int) -> list[Card]:
    """Return accuracies with their intervals, and numbers of videos."""
    found = run.metrics or {}
    bounds, metrics = found.get("intervals", {}), shown_metrics(found.get("metrics", {}), num_classes)
    shown = []
    for key, name in ACCURACIES.items():
        if key in metrics:
            value = metrics[key]
            text = "unknown" if value is None else f"{value:.2f}\u00a0%"
            shown.append(Card(text, name, _interval(bounds, key)))
    videos = video_counts(run)
    shown.append(Card(f"{videos['scored']:,}", "videos scored", f"of {videos['expected']:,} expected"))
    for key in _BAD:
        if number := videos.get(key):
            worse = found.get("if_failed_are_wrong") if key == "failed" else None
            detail = f"top-1 is {worse['top1']:.2f} % if they count as wrong" if worse else ""
            shown.append(Card(f"{number:,}", f"videos {key}", detail, "bad"))
    return shown


def facts(run: RunFiles, videos: ScoredVideos) -> list[tuple[str, str]]:
    """Return the setting of the test, the outcome of its videos, and its calibration."""
    get = run.predictions.metadata.get
    rows = [
        ("Protocol", f"{get('protocol', 'unknown')}, {get('sampling', 'unknown')} sampling"),
        ("Views", f"{get('views', 'unknown')}, joined by {get('ensemble', 'unknown')}"),
        ("Clip", f"{get('num_frames', '?')} frames, {get('sampling_rate', '?')} apart at {get('target_fps', '?')} fps"),
        ("Frames", f"{get('frame_order', 'unknown')}, crops of {get('crop_size', '?')} pixels from a short "
         f"side of {get('short_side', '?')}"),
        ("Classes", f"{videos.num_classes:,}" + (", several per video" if run.predictions.is_multilabel else "")),
    ]  # fmt: skip
    if get("corruption", "none") != "none":
        rows.append(("Corruption", get("corruption", "")))
    counts = video_counts(run)
    listed = [f"{counts[key]:,} {name}" for key, name in _COUNTS.items() if counts.get(key) or key in _ALWAYS_SHOWN]
    rows.append(("Videos", ", ".join(listed)))
    return rows + _calibration_rows(run.metrics or {})


def video_counts(run: RunFiles) -> dict[str, int]:
    """Return the videos by outcome, as `metrics.json` says, else as the predictions do."""
    if run.metrics is not None and isinstance(run.metrics.get("videos"), dict):
        return {"missing": 0} | run.metrics["videos"]
    num_scored = int(run.predictions.scored.sum())
    return {
        "expected": len(run.predictions.status),
        "scored": num_scored,
        "failed": len(run.predictions.status) - num_scored,
        "missing": 0,
        "damaged": int(run.damaged.sum()),
        "too_short": int(run.too_short.sum()),
    }


def _calibration_rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    text = _in_words(found.get("metrics", {}))
    rows = [("Calibration", text)] if text else []
    if scaled := found.get("temperature"):
        source = f"{scaled['fitted_on']} ({scaled['num_videos']:,} videos)"
        rows.append((f"At temperature {scaled['value']:.3f}", f"{_in_words(scaled['metrics'])}; fitted on {source}"))
    return rows


def _in_words(values: Mapping[str, Any]) -> str:
    shown = {key: values[key] for key in CALIBRATION if values.get(key) is not None}
    return ", ".join(
        f"{CALIBRATION[key]} {value:.2f} %" if key == "ece" else f"{CALIBRATION[key]} {value:.4f}"
        for key, value in shown.items()
    )


def _interval(bounds: Mapping[str, Any], key: str) -> str:
    if key not in bounds:
        return ""
    return f"{bounds['level']:.0%} interval {bounds[key]['low']:.2f} to {bounds[key]['high']:.2f}"


def links(run: RunFiles, page: Path) -> dict[str, list[Link]]:
    """Return files of the model, its data and its training, and those beside the test."""
    net = run.settings("model").get("net")
    name = net.get("class_path") if isinstance(net, dict) else net
    checkpoint = (run.record or {}).get("checkpoint")
    data = next((value for key in ("test", "val") if isinstance(value := run.settings("data").get(key), str)), None)
    trained = [] if run.training is None else [run.training / name for name in (CONFIG, RECORD, "curves.png")]
    here = [run.folder / name for name in (CONFIG, RECORD, METRICS, PREDICTIONS, FAILURES)]
    found = {
        "Model": [*([Link(name, None)] if isinstance(name, str) else []), *_links(run, [checkpoint], page)],
        "Data": _links(run, [data], page),
        "Training": [Link(file.name, _address(file, page)) for file in trained if file.exists()],
        "This test": [Link(file.name, _address(file, page)) for file in here if file.exists()],
    }
    return {kind: some for kind, some in found.items() if some}


def _links(run: RunFiles, names: Sequence[str | None], page: Path) -> list[Link]:
    files = [(str(name), run.find(str(name))) for name in names if name]
    return [Link(name, None if file is None else _address(file, page)) for name, file in files]


def _address(file: Path, page: Path) -> str:
    return quote(os.path.relpath(file.absolute(), page.absolute().parent))
