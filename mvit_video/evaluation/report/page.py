"""A test as one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs
from rich.console import Console

from mvit_video.evaluation.report.confusions import (
    Counts,
    Pair,
    confusion_counts,
    most_involved,
    order_by_similarity,
    worst_pairs,
)
from mvit_video.evaluation.report.headline import cards, facts
from mvit_video.evaluation.report.run_files import RunFiles, read_run
from mvit_video.evaluation.report.strips import read_strips
from mvit_video.evaluation.report.videos import ScoredVideos, as_columns, listed_videos
from mvit_video.jobs import atomic_write
from mvit_video.runs.predictions import in_words

_SCRIPTS = ("page", "tables", "videos", "confusion", "charts", "main")
_NUM_MISTAKES = 24
_NUM_PICTURED_PAIRS = 6
_PAIRS_LISTED = 1000
_FAILURES_LISTED = 2000
_CLASSES_IN_MATRIX = 1000


def write_report(source: str | Path, path: Path, console: Console, class_names: Sequence[str] | None = None) -> None:
    """Write the page of a test.

    Args:
        source: run folder of the test, or the `predictions.parquet` in it.
        path: HTML file to write.
        console: where progress is shown.
        class_names: name of each class; None takes those that the test recorded.

    Raises:
        ConfigError: there are no predictions, or of another number of classes.
        MVitVideoError: they cannot be read.
    """
    run = read_run(source, class_names)
    videos = ScoredVideos.of(run)
    listed = listed_videos(videos, run)
    notes = list(run.notes)
    if len(listed) < len(videos):
        notes.append(
            f"The page lists {len(listed):,} of {len(videos):,} scored videos, the mistakes before the others."
        )
    resources = files("mvit_video.evaluation.report")
    scripts = "\n".join((resources / "js" / f"{name}.js").read_text("utf-8") for name in _SCRIPTS)
    environment = Environment(loader=PackageLoader("mvit_video.evaluation.report", "."), autoescape=True)
    page = environment.get_template("page.html.j2").render(
        title=str(run.folder),
        run=run,
        cards=cards(run),
        facts=facts(run, videos),
        notes=notes,
        is_multilabel=run.predictions.is_multilabel,
        data=htmlsafe_json_dumps(page_data(run, videos, listed, console), separators=(",", ":"), allow_nan=False),
        style=Markup((resources / "page.css").read_text("utf-8")),
        scripts=Markup(scripts),
        plotly=Markup(get_plotlyjs()),
    )
    with atomic_write(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def page_data(run: RunFiles, videos: ScoredVideos, listed: NDArray[np.int64], console: Console) -> dict[str, Any]:
    """What the scripts of the page show; videos are named by their place among the listed ones."""
    is_multilabel = run.predictions.is_multilabel
    counts = np.empty((0, 3), np.int64) if is_multilabel else confusion_counts(videos)
    pairs = worst_pairs(counts, videos.num_classes)
    place = {int(i): n for n, i in enumerate(listed)}
    mistakes = [place[i] for i in videos.most_confident.tolist() if videos.wrong[i] and i in place][:_NUM_MISTAKES]
    examples = [_examples(pair, videos, place) for pair in pairs[:_NUM_PICTURED_PAIRS]]
    pictured = dict.fromkeys([*mistakes, *(n for example in examples for n in example if n is not None)])
    keys = {n: run.predictions.keys[videos.row[listed[n]]] for n in pictured}
    strips = read_strips(keys, Path(run.predictions.metadata.get("root", "")), console)
    found = run.metrics or {}
    return {
        "isMultilabel": is_multilabel,
        "names": class_names(run, videos.num_classes),
        "videos": as_columns(videos, run, listed),
        "classes": _classes(run, counts, videos.num_classes),
        "counts": counts.tolist(),
        "order": order_by_similarity(counts, most_involved(counts, _CLASSES_IN_MATRIX)),
        "pairs": [list(pair) for pair in pairs[:_PAIRS_LISTED]],
        "examples": examples,
        "mistakes": mistakes,
        "strips": {n: list(strip) for n, strip in strips.items()},
        "failures": _failures(run),
        "flawed": _flawed(run),
        "reliability": found.get("reliability") or [],
        "byViews": found.get("by_views") or [],
        "robustness": run.robustness or [],
        "gigaflops": run.gigaflops,
    }


def class_names(run: RunFiles, num_classes: int) -> list[str]:
    """A name of each class; its number where none is known."""
    names = run.predictions.class_names or []
    return [str(names[c]) if c < len(names) and names[c] is not None else f"class {c}" for c in range(num_classes)]


def _examples(pair: Pair, videos: ScoredVideos, place: dict[int, int]) -> tuple[int | None, int | None]:
    """The most confident video of the first class that was taken for the second, and the surest right one of that."""
    mistaken = right = None
    for i in videos.most_confident.tolist():
        if i not in place or not videos.labels[i]:
            continue
        cell = videos.labels[i][0], int(videos.first_guess[i])
        if mistaken is None and cell == (pair.first, pair.second):
            mistaken = place[i]
        if right is None and cell == (pair.second, pair.second):
            right = place[i]
    return mistaken, right


def _classes(run: RunFiles, counts: Counts, num_classes: int) -> dict[str, list[Any]]:
    """Videos of each class, and percent of them that are right, or the average precision; None where unknown."""
    if run.predictions.is_multilabel:
        told = {one["class"]: one.get("average_precision") for one in (run.metrics or {}).get("classes", [])}
        scored = [c for row in run.predictions.scored.nonzero()[0] for c in run.predictions.labels[row]]
        totals = np.bincount(np.array(scored, np.int64), minlength=num_classes)
        return {"videos": totals.tolist(), "value": [told.get(c) for c in range(num_classes)]}
    totals = np.bincount(counts[:, 0], weights=counts[:, 2], minlength=num_classes).astype(int)
    right = np.zeros(num_classes, int)
    hits = counts[counts[:, 0] == counts[:, 1]]
    right[hits[:, 0]] = hits[:, 2]
    return {
        "videos": totals.tolist(),
        "value": [100 * int(right[c]) / int(totals[c]) if totals[c] else None for c in range(num_classes)],
    }


def _failures(run: RunFiles) -> dict[str, Any]:
    """Path, labels and reason of the videos without a score."""
    rows = (~run.predictions.scored).nonzero()[0].tolist()
    labels, status = run.predictions.labels, run.predictions.status
    listed = [[in_words(run.predictions.keys[row]), labels[row], status[row]] for row in rows[:_FAILURES_LISTED]]
    return {"total": len(rows), "listed": listed}


def _flawed(run: RunFiles) -> dict[str, Any]:
    """Path and flaw of the videos that were scored although something is wrong with them."""
    flags = {"damaged: errors were concealed in its frames": run.damaged,
             "too short for a clip: its last frame was repeated": run.too_short}  # fmt: skip
    scored = run.predictions.scored
    rows = [(row, flaw) for flaw, flag in flags.items() for row in (flag & scored).nonzero()[0].tolist()]
    listed = [
        [in_words(run.predictions.keys[row]), run.predictions.labels[row], flaw]
        for row, flaw in rows[:_FAILURES_LISTED]
    ]
    return {"total": len(rows), "listed": listed}
