"""Callback of a multi-view test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from mvit_video.data import VideoTable
from mvit_video.data.clips.views import UniformViews
from mvit_video.data.dataset import ClipBatch, VideoDataset
from mvit_video.evaluation.result import Decoding, Evaluation, Setting, Temperature
from mvit_video.evaluation.scores import ViewScores
from mvit_video.evaluation.summary import print_summary
from mvit_video.evaluation.written_files import write_predictions
from mvit_video.jobs.distributed import all_gather_objects, from_first, on_first
from mvit_video.jobs.files import write_json_object
from mvit_video.metrics.calibration import fit_temperature
from mvit_video.metrics.names import shown_metrics
from mvit_video.metrics.views import Ensemble
from mvit_video.runs.predictions import PREDICTIONS, load_predictions
from mvit_video.runs.results import CONFUSION, FAILURES, METRICS, write_confusion, write_failures
from mvit_video.types import ConfigError

File = Literal["metrics", "predictions", "confusion"]


class MultiViewEvaluation(Callback):
    """Multi-view test: a printed table, logged metrics and files.

    The test loader has a `VideoDataset` with `UniformViews`. The `test_step` of the task returns `probabilities`, and
    `logits` for "logit_mean".

    Args:
        folder: of the files; None is the trainer's `default_root_dir`, and no files with `fast_dev_run`.
        ensemble: "sum" (mean probability), "logit_mean" or "max" over the views of a video; None is "sum" for videos
            with one label and "max" for those with several.
        with_views: write the scores of each view too, 2 bytes x videos x views x classes.
        temperature_from: run folder or `predictions.parquet` of a test on other videos, for fitting a temperature; the
            calibration at this temperature is reported too.
        write: "metrics" is `metrics.json`; "predictions" is `predictions.parquet`, and `failures.csv` when a video has
            no score; "confusion" is `confusion.parquet`, written where videos have one label each.
        verbose: print the table and the names of the files.

    Attributes:
        evaluates_views: signals to the task that its own scores are not needed.
    """

    evaluates_views = True

    def __init__(
        self,
        folder: str | Path | None = None,
        ensemble: Ensemble | None = None,
        with_views: bool = True,
        temperature_from: str | None = None,
        write: Sequence[File] = ("metrics", "predictions", "confusion"),
        verbose: bool = True,
    ) -> None:
        unknown = [name for name in write if name not in get_args(File)]
        if unknown:
            raise ConfigError(f"write={list(write)}: {unknown[0]!r} is none of {', '.join(get_args(File))}")
        self.folder = None if folder is None else Path(folder)
        self.ensemble: Ensemble | None = ensemble
        self.with_views = with_views
        self.temperature_from = temperature_from
        self.write: tuple[File, ...] = tuple(write)
        self.verbose = verbose

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test, take the videos of this one, and fit the temperature.

        Raises:
            ConfigError: the loader has no multi-view videos, the trainer has a second callback of this class, or there
                is nothing to write, or nothing to fit a temperature to.
        """
        if sum(isinstance(one, MultiViewEvaluation) for one in cast(Any, trainer).callbacks) > 1:
            raise ConfigError("trainer.callbacks has more than one MultiViewEvaluation, which log the same: keep one")
        self._table, self._rule = _tested(trainer)
        if self._table.is_multilabel and set(self.write) == {"confusion"}:
            raise ConfigError("write=confusion: videos with several labels have no confusion matrix; write predictions")
        num_classes = cast(int, cast(Any, pl_module).net.num_classes)
        self._scores = ViewScores(self._rule.views.num_views, num_classes)
        self._failures: dict[int, str] = {}
        self._decodings: dict[int, Decoding] = {}
        source, self._temperature = self.temperature_from, None
        if source is not None:
            self._temperature = on_first(lambda: temperature_for(self._table, num_classes, source))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the scores, decodings and failures of a batch.

        Raises:
            ConfigError: the ensemble needs logits, and the task returns none.
        """
        name = "logits" if self.ensemble == "logit_mean" else "probabilities"
        if name not in outputs:
            raise ConfigError(f"ensemble={self.ensemble} needs {name}, which the task's test_step does not return")
        self._scores.update(outputs[name], batch.video, batch.view, batch.seconds)
        self._failures.update({failure.video: failure.reason for failure in batch.failures})
        self._decodings.update({one.video: Decoding.of(one) for one in batch.decodes})

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print, write and log the result of all processes.

        Raises:
            RuntimeError: a video misses views although nothing failed, or has one twice.
        """
        evaluation = self._gather(trainer)
        folder = self.folder or (None if trainer.fast_dev_run else Path(trainer.default_root_dir))  # pyright: ignore[reportAttributeAccessIssue]

        def report() -> dict[str, float]:
            assert evaluation is not None
            self._report(evaluation, folder)
            shown = shown_metrics(evaluation.metrics, evaluation.probabilities.shape[1])
            return {f"test/{name}": value for name, value in shown.items() if value is not None and value == value}

        pl_module.log_dict(from_first(on_first(report)) or {}, sync_dist=True)

    def _gather(self, trainer: Trainer) -> Evaluation | None:
        """Return the videos of all processes on the first, None on the others."""
        table = self._table
        shares = all_gather_objects((self._failures, self._decodings))
        failures = {row: reason for share, _ in shares for row, reason in share.items()}
        decodings = {row: decoding for _, share in shares for row, decoding in share.items()}
        expected = np.setdiff1d(np.arange(len(table)), list(failures))
        is_limited = sum(trainer.num_test_batches) < len(cast(Any, trainer.test_dataloaders))
        views = self._scores.gather(expected[:0] if is_limited else expected, table.path)
        if views is None:
            return None
        left_out = frozenset(expected.tolist()) - set(views.video.tolist()) if is_limited else frozenset[int]()
        setting = Setting.of_table(self._rule, table, self.ensemble)
        return Evaluation.of_views(table, setting, views, failures, decodings, left_out)

    def _report(self, evaluation: Evaluation, folder: Path | None) -> None:
        """Write the files, then print the table and the names of the files."""
        found = evaluation.record(self._temperature) if self.verbose or "metrics" in self.write else {}
        files = [] if folder is None else self._write(evaluation, found, folder)
        if self.verbose:
            print_summary(found, Console())
            for file in files:
                print(f"written: {file}")

    def _write(self, evaluation: Evaluation, found: dict[str, Any], folder: Path) -> list[Path]:
        files: list[Path] = []
        if "metrics" in self.write:
            files.append(folder / METRICS)
            write_json_object(files[-1], found)
        if "predictions" in self.write:
            files.append(folder / PREDICTIONS)
            write_predictions(files[-1], evaluation, with_views=self.with_views)
            if evaluation.failures:
                files.append(folder / FAILURES)
                failed = sorted(evaluation.failures.items())
                write_failures(files[-1], ((evaluation.table.path(row), reason) for row, reason in failed))
        if "confusion" in self.write and not evaluation.table.is_multilabel:
            files.append(folder / CONFUSION)
            write_confusion(files[-1], evaluation.confusion.numpy(), evaluation.table.class_names)
        return files


def _tested(trainer: Trainer) -> tuple[VideoTable, UniformViews]:
    """Return the videos that a trainer tests, and the rule of their views."""
    dataset = getattr(trainer.test_dataloaders, "dataset", None)
    if isinstance(dataset, VideoDataset) and isinstance(dataset.views, UniformViews):
        return dataset.table, dataset.views
    raise ConfigError("MultiViewEvaluation needs one test loader over a VideoDataset with UniformViews")


def temperature_for(table: VideoTable, num_classes: int, source: str) -> Temperature:
    """Return a temperature fitted to the predictions of a test on other videos.

    Raises:
        ConfigError: the predictions are of the same videos or other classes, or have no scored video with a label.
    """
    held_out = load_predictions(source)
    if table.is_multilabel or held_out.is_multilabel:
        raise ConfigError(f"temperature_from={source}: a temperature is fitted to videos with one label each")
    usable = (held_out.label >= 0) & held_out.scored
    names = held_out.class_names
    same_names = names is None or table.class_names is None or tuple(names) == table.class_names
    if not usable.any() or not same_names or held_out.probabilities.shape[1] != num_classes:
        raise ConfigError(f"temperature_from={source}: it has no scored videos with labels of the same classes")
    tested = set(table.paths.to_pylist()) if str(table.root.absolute()) == held_out.metadata["root"] else set()
    shared = next((path for path, *_ in held_out.keys if path in tested), None)
    if shared is not None:
        raise ConfigError(f"temperature_from={source}: {shared} is among the videos of this test too; fit to others")
    probabilities = torch.from_numpy(held_out.probabilities.copy())[torch.from_numpy(usable[held_out.scored])]
    value = fit_temperature(probabilities, torch.from_numpy(held_out.label[usable]))
    return Temperature(value, str(held_out.file), int(usable.sum()))
