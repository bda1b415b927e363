"""The verb `robustness`: tests of one model in several settings, with the config and the options of `test`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mvit_video.cli.options import console_for_reports
from mvit_video.cli.trainer import VideoCLI, run_cli
from mvit_video.evaluation import MultiViewEvaluation
from mvit_video.evaluation.robustness.figure import write_robustness
from mvit_video.evaluation.robustness.running import (
    SEVERITIES,
    STUDIES,
    RobustnessSetting,
    find_robustness_run,
    robustness_key,
    run_settings,
    settings_of,
    write_robustness_record,
)
from mvit_video.evaluation.robustness.table import robustness_table
from mvit_video.training import Task
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import ConfigError


def run(words: list[str]) -> int:
    """Test every setting of the studies that the words name."""
    return run_cli(RobustnessCLI, RobustnessTrainer, words)


class RobustnessTrainer(Trainer):
    """A trainer that tests more than once."""

    def robustness(
        self,
        model: Task,
        datamodule: VideoDataModule,
        settings: Sequence[RobustnessSetting],
        ckpt_path: str | None = None,
    ) -> float:
        """Test the settings that are not in its folder yet; return the giga multiply-adds of one view."""
        return run_settings(self, model, datamodule, settings, Path(self.default_root_dir), ckpt_path)


class RobustnessCLI(VideoCLI):
    """Command line of `robustness`; one with the same weights, videos and views uses the folder of the previous one."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verb with the arguments of its method that are no options."""
        return {"robustness": {"model", "datamodule", "settings"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the studies and their severities."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--studies", type=str, nargs="+", metavar="STUDY", default=list(STUDIES),
            help="views: fewer of them, from the scores of all; frame_order: forward, shuffled, reversed, frozen; "
            "corruptions: noise, blur, dropped frames, compression",
        )  # fmt: skip
        parser.add_argument(
            "--severities", type=int, nargs="+", metavar="N", default=list(SEVERITIES), help="of the corruptions"
        )

    def before_instantiate_classes(self) -> None:
        """Find the settings to test, then the run folder.

        Raises:
            ConfigError: there is no such study or severity.
        """
        config = self.settings
        self._tested = settings_of(config.studies, config.severities)
        if config.trainer.fast_dev_run:
            raise ConfigError("trainer.fast_dev_run writes nothing: try --trainer.limit_test_batches 1")
        super().before_instantiate_classes()

    def robustness(self, **kwargs: Any) -> None:
        """Test the settings, and write the table and the figure."""
        self.guard(self._test_settings, kwargs)

    def _test_settings(self, **kwargs: Any) -> None:
        if self.trainer.is_global_zero:
            write_robustness_record(self.run_folder, self._key)
        gigaflops = cast(RobustnessTrainer, self.trainer).robustness(settings=self._tested, **kwargs)
        if not self.trainer.is_global_zero:
            return
        table = robustness_table(self.run_folder, self.settings.studies, self._tested, gigaflops)
        files = write_robustness(self.run_folder, table)
        num_classes = int(table.schema.metadata[b"num_classes"])
        _print([row for row in table.to_pylist() if row["metric"] != "top5" or num_classes > 5])
        for file in files:
            print(f"written: {file}")

    @cached_property
    def _key(self) -> str:
        """Digest of the weights and the test; reading a checkpoint takes seconds."""
        checkpoint = self.settings.ckpt_path
        return robustness_key(self.settings.as_dict(), None if checkpoint is None else Path(checkpoint))

    def find_folder(self, root: Path, *, make: bool) -> Path:
        """Return the folder of an earlier run of the same weights, videos and views, or a new one."""
        return find_robustness_run(root, self._key) or super().find_folder(root, make=make)

    def has_begun(self) -> bool:
        """Return whether a setting has been tested."""
        return any(setting.mark(self.run_folder).exists() for setting in self._tested)

    def advice_on_stop(self) -> str:
        """Return how to resume."""
        return "; the same command tests what is left"

    def callbacks(self) -> list[Callback]:
        """Return the callbacks of a test."""
        return self.plan.score(MultiViewEvaluation(self.run_folder))

    def loggers(self) -> list[Logger]:
        """Return none: every setting has its own numbers."""
        return []


def _print(rows: list[dict[str, Any]]) -> None:
    """Print a table that fits 80 columns: intervals of the first metric alone."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    table = Table(
        "study", "setting", "severity", title=f"Robustness over {rows[0]['num_videos']} videos", title_justify="left",
        box=SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    for row in rows[: len(metrics)]:
        table.add_column(f"{row['metric']} (95%)" if row is rows[0] and row["low"] is not None else row["metric"])
    for i in range(0, len(rows), len(metrics)):
        some = rows[i : i + len(metrics)]
        values = [f"{row['value']:.2f}" for row in some]
        if some[0]["low"] is not None:
            values[0] += f"  ({some[0]['low']:.1f} to {some[0]['high']:.1f})"
        severity = some[0]["severity"]
        is_last = i + len(metrics) < len(rows) and rows[i + len(metrics)]["study"] != some[0]["study"]
        cells = (some[0]["study"], some[0]["setting"], "" if severity is None else str(severity), *values)
        table.add_row(*cells, end_section=is_last)
    console_for_reports().print(table)
