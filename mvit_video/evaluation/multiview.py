"""Multi-view test: joins the views of each video, checks that none is missing, reports and writes the result."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from mvit_video.data.annotations import VideoTable
from mvit_video.data.dataset import ClipBatch
from mvit_video.evaluation.metrics import VideoPredictions, VideoScores
from mvit_video.evaluation.predictions import write_failures, write_predictions
from mvit_video.types import ViewSpec


class MultiViewEvaluation(Callback):
    """Scores videos over their views at test; the task's `test_step` returns the views' `probabilities`.

    Args:
        folder: where `predictions.parquet` and `failures.csv` go; None writes nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._scores: VideoScores | None = None
        self._failures: dict[int, str] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier test."""
        num_classes = cast(int, cast(Any, pl_module).net.num_classes)
        self._scores = VideoScores(num_classes).to(pl_module.device)
        self._failures = {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the views of the batch, and what could not be read."""
        assert self._scores is not None
        self._scores.update(outputs["probabilities"], batch.label, batch.video, batch.view)
        self._failures.update({failure.video: failure.reason for failure in batch.failures})

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports over all processes.

        Raises:
            RuntimeError: a video lacks views although nothing failed.
        """
        assert self._scores is not None
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        table: VideoTable = data.tables["test"]
        views: ViewSpec = data.views
        frame_order: str = data.test_views.frame_order
        videos, failures = self._scores.gather(), _gather(self._failures)
        finite = videos.probabilities.isfinite().all(dim=1)
        failures |= {row: "the model's output is not finite" for row in videos.video[~finite].tolist()}
        videos = videos.select(finite)
        left_out = sorted(set(range(len(table))) - failures.keys() - set(videos.video.tolist()))
        loader = cast(Any, trainer.test_dataloaders)
        if sum(trainer.num_test_batches) < len(loader):
            failures |= dict.fromkeys(left_out, "left out by trainer.limit_test_batches")
            left_out = []
        check_views(table, videos, left_out, views)

        metrics = {"top1": videos.top(1), "top5": videos.top(5), "mean_class": videos.mean_class}
        metrics = {name: float(value) for name, value in metrics.items()}
        pl_module.log_dict(
            {f"test/{name}": value for name, value in metrics.items() if not math.isnan(value)}, sync_dist=True
        )
        if not trainer.is_global_zero:
            return
        rows = {"videos": f"{len(videos.video)} of {len(table)}"}
        if table.num_missing:
            rows["videos missing"] = str(table.num_missing)
        if num_unknown := int((videos.label < 0).sum()):
            rows["without label"] = str(num_unknown)
        rows |= {"views": describe(views), "frame order": frame_order}
        rows |= {name.replace("_", "-"): f"{value:.2f}" for name, value in metrics.items()}
        rows["videos failed"] = str(len(failures))
        files: list[Path] = []
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            written = self.folder / "predictions.parquet"
            write_predictions(written, table, videos, failures, views=views, frame_order=frame_order)
            files.append(written)
            if failures:
                files.append(self.folder / "failures.csv")
                write_failures(files[-1], table, failures)
        _print(rows)
        for file in files:  # below the table, which would break long paths
            print(f"written: {file}")


def describe(views: ViewSpec) -> str:
    """Views in words, such as "5 clips x 1 crop"."""
    clips, crops = views.num_clips, views.num_crops
    return f"{clips} clip{'s' * (clips != 1)} x {crops} crop{'s' * (crops != 1)}"


def check_views(table: VideoTable, videos: VideoPredictions, left_out: list[int], views: ViewSpec) -> None:
    """Refuses a result in which a video or a view is missing.

    Raises:
        RuntimeError: a video lacks views, or is neither scored nor known to have failed.
    """
    short = (videos.num_views != views.num_views).nonzero()[:, 0].tolist()
    lacking = {int(videos.video[i]): int(videos.num_views[i]) for i in short} | dict.fromkeys(left_out, 0)
    if lacking:
        row, seen = next(iter(lacking.items()))
        raise RuntimeError(
            f"{len(lacking)} of {len(table)} videos lack views, first {table.path(row)}: "
            f"{seen} of {views.num_views} ({describe(views)})"
        )


def _gather(failures: dict[int, str]) -> dict[int, str]:
    """Failures of all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return dict(failures)
    shares: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, failures)
    return {row: reason for share in shares for row, reason in share.items()}


def _print(rows: dict[str, str]) -> None:
    table = Table(title="Multi-view test", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
