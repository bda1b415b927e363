"""Callbacks that join the views of each video at test: what they report, and what they write.

Several of them in one trainer share what they collect. Of several of one class, the first alone is at work.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from mvit_video.data.annotations import VideoTable
from mvit_video.data.dataset import ClipBatch
from mvit_video.evaluation.predictions import write_confusion, write_failures, write_predictions, write_record
from mvit_video.evaluation.result import Decoding, Evaluation, Setting, Temperature, record, scalars
from mvit_video.evaluation.scores import VideoViews, ViewScores
from mvit_video.jobs.distributed import all_gather_objects, from_first, on_first
from mvit_video.metrics.accuracy import Ensemble
from mvit_video.metrics.calibration import fit_temperature
from mvit_video.runs.predictions import load_predictions
from mvit_video.types import ConfigError


class VideoScoring(Callback):
    """Collects the views of a test; what is done with the videos is a subclass's `report`.

    The task's `test_step` returns the views' `probabilities`, and `logits` for the ensemble of those.

    Args:
        folder: where files go; None is the trainer's `default_root_dir`, or nowhere with `fast_dev_run`.
        ensemble: "sum" (mean probability), "logit_mean" or "max" over the views of a video; None is "sum" for videos
            with one label and "max" for those with several.

    Attributes:
        evaluates_views: tells the task that its own scores are not needed.
    """

    evaluates_views = True

    def __init__(self, folder: str | Path | None = None, ensemble: Ensemble | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.ensemble: Ensemble | None = ensemble
        self._scores: ViewScores | None = None
        self._failures: dict[int, str] = {}
        self._decodings: dict[int, Decoding] = {}
        self._evaluation: Evaluation | None = None

    def report(self, evaluation: Evaluation, folder: Path | None) -> dict[str, float]:
        """Says or writes what it is for, on the first process; returns what to log."""
        raise NotImplementedError

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier test."""
        self._scores, self._evaluation, self._failures, self._decodings = None, None, {}, {}
        if self._collector(trainer) is self:
            num_classes = cast(int, cast(Any, pl_module).net.num_classes)
            self._scores = ViewScores(_data(trainer).views.num_views, num_classes)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the views of the batch, how they were read, and what could not be.

        Raises:
            ConfigError: the ensemble is of logits, and the task returns none.
        """
        if self._scores is None:
            return
        name = "logits" if self.ensemble == "logit_mean" else "probabilities"
        if name not in outputs:
            raise ConfigError(f"ensemble={self.ensemble} needs {name}, which the task's test_step does not return")
        self._scores.update(outputs[name], batch.video, batch.view, batch.seconds)
        self._failures.update({failure.video: failure.reason for failure in batch.failures})
        self._decodings.update({one.video: Decoding(one.backend, one.damaged, one.too_short) for one in batch.decodes})

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports over all processes.

        Raises:
            RuntimeError: a video lacks views although nothing failed, or has one twice.
        """
        collector = self._collector(trainer)
        if collector is None:
            return
        if collector is self:
            self._evaluation = self._evaluate(trainer)
        evaluation = collector._evaluation
        folder = self.folder or (None if trainer.fast_dev_run else Path(trainer.default_root_dir))  # pyright: ignore[reportAttributeAccessIssue]

        def report() -> dict[str, float]:
            assert evaluation is not None
            return self.report(evaluation, folder)

        values = from_first(on_first(report)) or {}
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        pl_module.log_dict({f"test/{name}": value for name, value in known.items()}, sync_dist=True)

    def _collector(self, trainer: Trainer) -> VideoScoring | None:
        """The callback that collects for this one; None when another of the class is at work."""
        all_of_them = [one for one in cast(Any, trainer).callbacks if isinstance(one, VideoScoring)]
        if next(one for one in all_of_them if isinstance(one, type(self))) is not self:
            return None
        return next(one for one in all_of_them if one.ensemble == self.ensemble)

    def _evaluate(self, trainer: Trainer) -> Evaluation | None:
        """The videos of all processes, on the first."""
        assert self._scores is not None
        data = _data(trainer)
        table: VideoTable = data.tables["test"]
        shares = all_gather_objects((self._failures, self._decodings))
        failures = {row: reason for share, _ in shares for row, reason in share.items()}
        decodings = {row: decoding for _, share in shares for row, decoding in share.items()}
        expected = np.setdiff1d(np.arange(len(table)), list(failures))
        is_limited = sum(trainer.num_test_batches) < len(cast(Any, trainer.test_dataloaders))
        views = self._scores.gather(expected[:0] if is_limited else expected, table.path)
        if views is None:
            return None
        seen = set(views.video.tolist())
        failures = {row: reason for row, reason in failures.items() if row not in seen}  # another process had it
        left_out = frozenset(expected.tolist()) - seen if is_limited else frozenset()
        views = self._without_non_finite(views, failures)
        ensemble = self.ensemble or ("max" if table.is_multilabel else "sum")
        return Evaluation(table, _setting(data, ensemble), views, failures, left_out, decodings)

    def _without_non_finite(self, views: VideoViews, failures: dict[int, str]) -> VideoViews:
        finite = views.scores.sum(dim=(1, 2), dtype=torch.float64).isfinite()
        failures |= dict.fromkeys(views.video[~finite].tolist(), "the model's output is not finite")
        return views.select(finite)


class PredictionWriter(VideoScoring):
    """Writes `predictions.parquet`, and `failures.csv` when a video has no score.

    Args:
        folder: where they go; None is the trainer's `default_root_dir`, or nowhere with `fast_dev_run`.
        ensemble: how the views of a video become one, as in `MultiViewEvaluation`.
        with_views: the scores of each view too, 2 bytes x videos x views x classes.
    """

    def __init__(
        self, folder: str | Path | None = None, ensemble: Ensemble | None = None, with_views: bool = True
    ) -> None:
        super().__init__(folder, ensemble)
        self.with_views = with_views

    def report(self, evaluation: Evaluation, folder: Path | None) -> dict[str, float]:
        """Writes."""
        if folder is not None:
            _write(evaluation, folder, self.with_views)
        return {}


class ConfusionMatrix(VideoScoring):
    """Writes `confusion.parquet`: how many videos of which class were taken for which.

    Args:
        folder: where it goes; None is the trainer's `default_root_dir`, or nowhere with `fast_dev_run`.
        ensemble: how the views of a video become one, as in `MultiViewEvaluation`.
    """

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier test.

        Raises:
            ConfigError: videos have several labels.
        """
        if _data(trainer).tables["test"].is_multilabel:
            raise ConfigError("ConfusionMatrix takes videos with one label each, these have several: remove it")
        super().on_test_start(trainer, pl_module)

    def report(self, evaluation: Evaluation, folder: Path | None) -> dict[str, float]:
        """Writes."""
        if folder is not None:
            write_confusion(folder / "confusion.parquet", evaluation)
        return {}


class MultiViewEvaluation(VideoScoring):
    """Prints a table of the test, logs its numbers, and writes all of its files.

    Args:
        folder: where they go; None is the trainer's `default_root_dir`, or nowhere with `fast_dev_run`.
        ensemble: "sum" (mean probability), "logit_mean" or "max" over the views of a video; None is "sum" for videos
            with one label and "max" for those with several.
        with_views: the scores of each view too, 2 bytes x videos x views x classes.
        temperature_from: run folder or `predictions.parquet` of a test on other videos, to which a temperature is
            fitted; what it makes of the calibration is told beside.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        ensemble: Ensemble | None = None,
        with_views: bool = True,
        temperature_from: str | None = None,
    ) -> None:
        super().__init__(folder, ensemble)
        self.with_views = with_views
        self.temperature_from = temperature_from
        self._temperature: Temperature | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier test, and fits the temperature.

        Raises:
            ConfigError: there is nothing to fit it to.
        """
        super().on_test_start(trainer, pl_module)
        source = self.temperature_from
        if source is not None and self._collector(trainer) is not None:
            num_classes = cast(int, cast(Any, pl_module).net.num_classes)
            table: VideoTable = _data(trainer).tables["test"]
            self._temperature = on_first(lambda: temperature_for(table, num_classes, source))

    def report(self, evaluation: Evaluation, folder: Path | None) -> dict[str, float]:
        """Prints and writes; the numbers to log are those of the table."""
        found = record(evaluation, self._temperature)
        files: list[Path] = []
        if folder is not None:
            files.append(folder / "metrics.json")
            write_record(files[-1], found)
            files += _write(evaluation, folder, self.with_views)
            if not evaluation.table.is_multilabel:
                files.append(folder / "confusion.parquet")
                write_confusion(files[-1], evaluation)
        _print(found)
        for file in files:  # below the table, which would break long paths
            print(f"written: {file}")
        return scalars(evaluation)


def temperature_for(table: VideoTable, num_classes: int, source: str) -> Temperature:
    """A temperature for the videos of a table, fitted to the predictions of an earlier test.

    Raises:
        ConfigError: they are not of other videos with the same classes, or give nothing to fit to.
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


def _setting(data: Any, ensemble: Ensemble) -> Setting:
    views = data.test_views
    return Setting(
        protocol=views.protocol,
        clip=data.clip,
        sampling=views.sampling,
        views=data.views,
        crop_size=data.crop_size,
        short_side=views.short_side,
        frame_order=views.frame_order,
        corruption="none" if views.corruption is None else str(views.corruption),
        ensemble=ensemble,
    )


def _data(trainer: Trainer) -> Any:
    return trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]


def _write(evaluation: Evaluation, folder: Path, with_views: bool) -> list[Path]:
    """Predictions, and failures if there are some."""
    files = [folder / "predictions.parquet"]
    write_predictions(files[0], evaluation, with_views=with_views)
    if evaluation.failures:
        files.append(folder / "failures.csv")
        write_failures(files[-1], evaluation.table, evaluation.failures)
    return files


def _print(found: dict[str, Any]) -> None:
    table = Table(title="Multi-view test", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in _rows(found).items():
        table.add_row(name, value)
    Console().print(table)


def _rows(found: dict[str, Any]) -> dict[str, str]:
    """The printed table: what was tested, how, and what came out."""
    videos, setting = found["videos"], found["setting"]
    in_table = videos["expected"] - videos["missing"]
    rows = {"videos": f"{videos['scored']} of {in_table}", "videos failed": str(videos["failed"])}
    for key, name in (
        ("missing", "videos missing"), ("left_out", "left out by a limit"), ("without_label", "without label"),
        ("damaged", "videos damaged"), ("too_short", "videos too short for a clip"),
        ("repeated_views", "views repeated, counted once"),
    ):  # fmt: skip
        if videos[key]:
            rows[name] = str(videos[key])
    rows["views"] = f"{setting['views']}, {setting['protocol']}, {setting['ensemble']}"
    rows["frame order"] = setting["frame_order"]
    if setting["corruption"] != "none":
        rows["corruption"] = setting["corruption"]
    bounds = found.get("intervals", {})
    for name, value in found["metrics"].items():
        text = "unknown" if value is None else f"{value:.{4 if name in ('nll', 'brier') else 2}f}"
        if name in bounds:
            text += f"  ({bounds['level']:.0%}: {bounds[name]['low']:.2f} to {bounds[name]['high']:.2f})"
        rows[name.replace("_", "-")] = text
    if worse := found.get("if_failed_are_wrong"):
        rows["top1 if failed are wrong"] = f"{worse['top1']:.2f}"
    if scaled := found.get("temperature"):
        values = ", ".join(f"{name} {value:.4g}" for name, value in scaled["metrics"].items())
        rows[f"at temperature {scaled['value']:.3f}"] = values
    return rows
