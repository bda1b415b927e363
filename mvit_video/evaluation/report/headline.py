"""What stands at the top of the page, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mvit_video.evaluation.report.run_files import RunFiles
from mvit_video.evaluation.report.videos import ScoredVideos

_ACCURACIES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean over classes", "mAP": "mean average precision"}
_CALIBRATION = {"nll": "negative log-likelihood", "brier": "Brier score", "ece": "expected calibration error"}
_COUNTS = {
    "expected": "expected",
    "scored": "scored",
    "failed": "failed",
    "missing": "missing",
    "left_out": "left out by a limit",
    "without_label": "without a label",
    "damaged": "damaged",
    "too_short": "too short for a clip",
    "repeated_views": "views repeated, counted once",
}
_ALWAYS_TOLD = ("expected", "scored", "failed", "missing")
_BAD = ("failed", "missing")


class Card(NamedTuple):
    """A headline number.

    Attributes:
        detail: what bounds it.
        look: class that colours it.
    """

    value: str
    name: str
    detail: str = ""
    look: str = ""


def cards(run: RunFiles) -> list[Card]:
    """Accuracies with their intervals, and how many videos they are of."""
    found = run.metrics or {}
    bounds = found.get("intervals", {})
    shown = []
    for key, name in _ACCURACIES.items():
        if key in found.get("metrics", {}):
            value = found["metrics"][key]
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
    """The setting of the test, what became of its videos, and its calibration."""
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
    told = [f"{counts[key]:,} {name}" for key, name in _COUNTS.items() if counts.get(key) or key in _ALWAYS_TOLD]
    rows.append(("Videos", ", ".join(told)))
    return rows + _calibration_rows(run.metrics or {})


def video_counts(run: RunFiles) -> dict[str, int]:
    """What became of the videos: as the test counted, else as the predictions tell."""
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
    told = _in_words(found.get("metrics", {}))
    rows = [("Calibration", told)] if told else []
    if scaled := found.get("temperature"):
        source = f"{scaled['fitted_on']} ({scaled['num_videos']:,} videos)"
        rows.append((f"At temperature {scaled['value']:.3f}", f"{_in_words(scaled['metrics'])}; fitted on {source}"))
    return rows


def _in_words(values: Mapping[str, Any]) -> str:
    shown = {key: values[key] for key in _CALIBRATION if values.get(key) is not None}
    return ", ".join(
        f"{_CALIBRATION[key]} {value:.2f} %" if key == "ece" else f"{_CALIBRATION[key]} {value:.4f}"
        for key, value in shown.items()
    )


def _interval(bounds: Mapping[str, Any], key: str) -> str:
    if key not in bounds:
        return ""
    return f"{bounds['level']:.0%} interval {bounds[key]['low']:.2f} to {bounds[key]['high']:.2f}"
