"""The page of a test, with frames of its videos and figures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from numpy.typing import NDArray
from rich.console import Console

from mvit_video.evaluation.report.confusions import (
    Counts,
    Pair,
    class_scores,
    confusion_counts,
    most_involved,
    order_by_similarity,
    worst_pairs,
)
from mvit_video.evaluation.report.figures import draw_robustness_rows, draw_sections
from mvit_video.evaluation.report.headline import cards, facts, links
from mvit_video.evaluation.report.run_files import RunFiles, read_run
from mvit_video.evaluation.report.strips import read_strips
from mvit_video.evaluation.report.videos import ScoredVideos, as_columns, listed_videos, spread_over_pairs
from mvit_video.pages.html import write_html
from mvit_video.runs.predictions import in_words

_NUM_MISTAKES, _NUM_CORRECT = 24, 6
_NUM_PICTURED_PAIRS = 6
_PAIRS_LISTED = 1000
_FAILURES_LISTED = 2000
_CLASSES_IN_MATRIX = 1000
_MOST_CURVE_BYTES = 2**20


def write_report(source: str | Path, path: Path, console: Console, class_names: Sequence[str] | None = None) -> None:
    """Write the page of a test.

    Args:
        source: run folder of the test, or the `predictions.parquet` in it.
        path: HTML file to write.
        console: where progress is shown.
        class_names: name of each class; None takes the names that the test recorded.

    Raises:
        ConfigError: there are no predictions, or of another number of classes.
        MVitVideoError: they cannot be read.
    """
    run = read_run(source, class_names)
    videos = ScoredVideos.of(run)
    listed = listed_videos(videos, run)
    notes = list(run.notes)
    if len(listed) < len(videos):
        notes.append(f"The page lists {len(listed):,} of {len(videos):,} scored videos, mistakes first.")
    write_html(
        path,
        "mvit_video.evaluation.report",
        "report.html.j2",
        kind="Test",
        title=str(run.folder),
        run=run,
        cards=cards(run, videos.num_classes),
        facts=facts(run, videos),
        links=links(run, path),
        notes=notes,
        is_multilabel=run.predictions.is_multilabel,
        figures=draw_sections(run),
        robustness=run.robustness,
        robustness_figures=draw_robustness_rows(run, videos.num_classes),
        curves=_curves(run),
        data=htmlsafe_json_dumps(page_data(run, videos, listed, console), separators=(",", ":"), allow_nan=False),
    )


def page_data(run: RunFiles, videos: ScoredVideos, listed: NDArray[np.int64], console: Console) -> dict[str, Any]:
    """Return the data of the page's scripts, which name videos by their place among the listed ones."""
    is_multilabel = run.predictions.is_multilabel
    counts = np.empty((0, 3), np.int64) if is_multilabel else confusion_counts(videos)
    pairs = worst_pairs(counts, videos.num_classes)
    place = {int(i): n for n, i in enumerate(listed)}
    known = [i for i in videos.most_confident.tolist() if videos.labels[i] and i in place]
    mistakes = spread_over_pairs(videos, [i for i in known if videos.wrong[i]], _NUM_MISTAKES)
    correct = spread_over_pairs(videos, [i for i in known if not videos.wrong[i]], _NUM_CORRECT)
    chosen = {"mistakes": [place[i] for i in mistakes], "correct": [place[i] for i in correct]}
    examples = [_examples(pair, videos, place) for pair in pairs[:_NUM_PICTURED_PAIRS]]
    shown = [*chosen["mistakes"], *chosen["correct"], *(n for example in examples for n in example if n is not None)]
    keys = {n: run.predictions.keys[videos.row[listed[n]]] for n in dict.fromkeys(shown)}
    strips = read_strips(keys, Path(run.predictions.metadata.get("root", "")), console)
    return {
        "isMultilabel": is_multilabel,
        "names": class_names(run, videos.num_classes),
        "videos": as_columns(videos, run, listed),
        "classes": _classes(run, counts, videos.num_classes),
        "counts": counts.tolist(),
        "order": order_by_similarity(counts, most_involved(counts, _CLASSES_IN_MATRIX)),
        "pairs": [list(pair) for pair in pairs[:_PAIRS_LISTED]],
        "examples": examples,
        **chosen,
        "strips": {n: list(strip) for n, strip in strips.items()},
        "failures": _failures(run),
        "flawed": _flawed(run),
    }


def _curves(run: RunFiles) -> str | None:
    """Return the training curves in base64; None where they are missing, or too large for a page."""
    file = None if run.training is None else run.training / "curves.png"
    if file is None or not file.is_file() or file.stat().st_size > _MOST_CURVE_BYTES:
        return None
    return b64encode(file.read_bytes()).decode()


def class_names(run: RunFiles, num_classes: int) -> list[str]:
    """Return the name of each class, or its number."""
    names = run.predictions.class_names or []
    return [str(names[c]) if c < len(names) and names[c] is not None else f"class {c}" for c in range(num_classes)]


def _examples(pair: Pair, videos: ScoredVideos, place: dict[int, int]) -> tuple[int | None, int | None]:
    """Return the most confident video of the first class predicted as the second, and a right one of the second."""
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
    """Return the videos and scores of each class; a value is its recall or average precision, None where unknown."""
    if run.predictions.is_multilabel:
        found = {one["class"]: one.get("average_precision") for one in (run.metrics or {}).get("classes", [])}
        scored = [c for row in run.predictions.scored.nonzero()[0] for c in run.predictions.labels[row]]
        totals = np.bincount(np.array(scored, np.int64), minlength=num_classes)
        return {"videos": totals.tolist(), "value": [found.get(c) for c in range(num_classes)]}
    scores = class_scores(counts, num_classes)
    return {"videos": scores.videos, "value": scores.recall, "precision": scores.precision, "f1": scores.f1}


def _failures(run: RunFiles) -> dict[str, Any]:
    """Return path, labels and reason of the videos without a score."""
    rows = (~run.predictions.scored).nonzero()[0].tolist()
    labels, status = run.predictions.labels, run.predictions.status
    listed = [[in_words(run.predictions.keys[row]), labels[row], status[row]] for row in rows[:_FAILURES_LISTED]]
    return {"total": len(rows), "listed": listed}


def _flawed(run: RunFiles) -> dict[str, Any]:
    """Return path, labels and flaw of the videos that were scored although they are damaged or too short."""
    flags = {"damaged: errors were concealed in its frames": run.damaged,
             "too short for a clip: its last frame was repeated": run.too_short}  # fmt: skip
    scored = run.predictions.scored
    rows = [(row, flaw) for flaw, flag in flags.items() for row in (flag & scored).nonzero()[0].tolist()]
    listed = [
        [in_words(run.predictions.keys[row]), run.predictions.labels[row], flaw]
        for row, flaw in rows[:_FAILURES_LISTED]
    ]
    return {"total": len(rows), "listed": listed}
