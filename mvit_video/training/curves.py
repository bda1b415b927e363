"""The curves of a run as a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from mvit_video.jobs import atomic_write
from mvit_video.training.output import survives_failure

_MOST_MARKERS = 60


class Curves(Callback):
    """Draws `curves.png` from `metrics.csv` when training ends, also when it was stopped or failed.

    Args:
        folder: the run's, with its `metrics.csv`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws, if anything was logged."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.save()
        metrics, picture = self.folder / "metrics.csv", self.folder / "curves.png"
        if metrics.exists():
            with survives_failure(picture):
                draw_curves(metrics, picture)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Likewise."""
        self.on_fit_end(trainer, pl_module)


def draw_curves(metrics: Path, picture: Path) -> None:
    """Loss, validation metrics and learning rate over the steps of a run.

    Args:
        metrics: a `metrics.csv`; a run that went on has one for each of its parts.
        picture: PNG file to write.
    """
    # slow to import; the figure is drawn without a window, whatever the user's settings
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = [name for name in ("val/top1", "val/top5", "val/mAP") if any(row.get(name) for row in rows)]
    panels: list[tuple[str, Sequence[str]]] = [
        ("loss", ("train/loss", "train/loss_epoch", "val/loss")),
        ("learning rate", ("lr",)),
    ]
    if scores:
        panels.insert(1, ("percent", scores))
    figure = Figure(figsize=(8, 2.6 * len(panels)), dpi=100, layout="constrained")
    rows_of_axes = figure.subplots(len(panels), sharex=True)
    for axes, (title, names) in zip(rows_of_axes, panels, strict=True):
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            if points:
                # a line through one point is invisible, and few of them are easily missed
                marker = "o" if len(points) <= _MOST_MARKERS else None
                axes.plot(*zip(*points, strict=True), label=name, marker=marker, markersize=3, linewidth=1.2)
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    rows_of_axes[-1].set_xlabel("optimiser step")
    with atomic_write(picture) as unfinished:
        FigureCanvasAgg(figure).print_figure(unfinished, format="png")
