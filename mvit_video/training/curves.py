"""The curves of a training as a figure."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer

from mvit_video.pages.figures import GREY, INK, SERIES, new_figure, write_png
from mvit_video.runs.results import LOG
from mvit_video.training.output import survives_failure

_MOST_MARKERS = 60
_LOSSES = {
    "train/loss": "training, per step",
    "train/loss_epoch": "training, mean of the epoch",
    "val/loss": "validation",
}
_SCORES = {"val/top1": "top-1", "val/top5": "top-5", "val/mAP": "mAP"}


class Curves(Callback):
    """Drawing of `curves.png` from `metrics.csv` when training ends, is stopped, or fails.

    Args:
        folder: of the run, with its `metrics.csv`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if anything was logged."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.save()
        metrics, target = self.folder / LOG, self.folder / "curves.png"
        if metrics.exists():
            with survives_failure(target):
                draw_curves(metrics, target)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Draw after a failure."""
        self.on_fit_end(trainer, pl_module)


def draw_curves(metrics: Path, target: Path) -> None:
    """Draw loss, validation accuracy and learning rate over the steps of a run, and mark the best epoch.

    Args:
        metrics: a `metrics.csv`; a resumed run has the rows of each of its parts.
        target: PNG file to write.
    """
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = {key: name for key, name in _SCORES.items() if _is_shown(key, _points(rows, key))}
    panels = {"loss": _LOSSES, "accuracy, %": scores, "learning rate": {"lr": ""}}
    drawn = {title: curves for title, curves in panels.items() if curves}
    figure, all_axes = new_figure(len(drawn), 1, width=8, height=2.6)
    best = _best_row(rows)
    last = max((int(row["step"]) for row in rows), default=0)
    for axes, (title, curves) in zip(all_axes, drawn.items(), strict=True):
        for i, (key, name) in enumerate(curves.items()):
            points = _points(rows, key)
            if points:
                # a line through one point is invisible, and one through few is easily missed
                marker = "o" if len(points) <= _MOST_MARKERS else None
                colour = GREY if key == "train/loss" else SERIES[max(0, i - 1) if curves is _LOSSES else i]
                axes.plot(
                    *zip(*points, strict=True), label=name, color=colour, marker=marker, markersize=3, linewidth=1.2
                )
        if best is not None:
            text = f"best epoch: {int(best.row['epoch']) + 1} ({best.score:.1f} %)" if curves is scores else None
            axes.axvline(int(best.row["step"]), color=INK, linestyle=":", linewidth=1, label=text)
        axes.set(ylabel=title, xlim=(0, 1.02 * max(last, 1)))
        axes.locator_params(axis="x", integer=True)
        axes.grid()
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
    all_axes[-1].set_xlabel("optimiser step")
    write_png(figure, target)


def _points(rows: list[dict[str, str]], key: str) -> list[tuple[int, float]]:
    return [(int(row["step"]), float(row[key])) for row in rows if row.get(key)]


def _is_shown(key: str, points: list[tuple[int, float]]) -> bool:
    """Return whether a score says something: top-5 of fewer than six classes is always 100."""
    return bool(points) and not (key == "val/top5" and all(value == 100 for _, value in points))


class _Best(NamedTuple):
    row: dict[str, str]
    score: float


def _best_row(rows: list[dict[str, str]]) -> _Best | None:
    """Return the first row of the highest score, as `best.ckpt` is chosen; None without a score."""
    for key in ("val/top1", "val/mAP"):
        if scored := [_Best(row, float(row[key])) for row in rows if row.get(key)]:
            return max((one for one in scored if math.isfinite(one.score)), key=lambda one: one.score, default=None)
    return None
