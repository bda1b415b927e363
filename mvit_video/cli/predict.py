"""The verb `predict`: features as `extract` writes them, with a config and the options of `test`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from rich.console import Console

from mvit_video.cli import Stopped
from mvit_video.cli.trainer import VideoCLI, run_cli
from mvit_video.cli.wording import in_flags
from mvit_video.features.engines.local import extract_locally
from mvit_video.features.extraction import FEATURES, Summary, describe, extract_videos
from mvit_video.features.extractor import Extractor, ExtractSettings
from mvit_video.features.inputs import join_tables
from mvit_video.runs.trained_model import Preprocessing, TrainedModel
from mvit_video.training import TERMINATION_SIGNALS, RunRecord
from mvit_video.training.initial import prepare_net
from mvit_video.types import ConfigError, FeatureFormat, MVitVideoError, Precision

T = TypeVar("T")

_PRECISIONS: dict[str, Precision] = {"32-true": "fp32", "16-mixed": "fp16", "bf16-mixed": "bf16"}
_LIMIT_SECONDS = 120.0
_KEYS = {field.name: f"features.{field.name}" for field in fields(ExtractSettings)}


def run(words: list[str]) -> int:
    """Extract features of the videos of `data.predict`."""
    return run_cli(PredictCLI, Trainer, words)


class PredictCLI(VideoCLI):
    """Command line of `predict`; features go beside the run folders of the config, where the next run finds them."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verb with the arguments of the trainer's method that are no options."""
        return {"predict": {"model", "dataloaders", "datamodule", "return_predictions", "weights_only"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of the features."""
        super().add_arguments_to_parser(parser)
        of_trainer: set[str | int] = {"model", "precision", "device"}
        parser.add_class_arguments(ExtractSettings, "features", skip=of_trainer, instantiate=False)
        parser.add_argument(
            "--features.folder", type=str | None, default=None, help="folder or URL of the features; null is "
            "features/LAYER-KEY beside the run folders, another one for other weights or windows",
        )  # fmt: skip
        parser.add_argument("--features.format", type=FeatureFormat, default="parquet", help="of the files")

    def before_instantiate_classes(self) -> None:
        """Find the run folder and the checkpoint.

        Raises:
            ConfigError: the run would write nothing, or a setting of the features is impossible.
        """
        trainer = self.settings.trainer
        if trainer.fast_dev_run:
            raise ConfigError("trainer.fast_dev_run writes nothing: leave it out, and give data.predict a few videos")
        trainer.enable_progress_bar = False  # videos are shown, not batches
        options: dict[str, Any] = vars(self.settings.features.clone())
        self._folder, self._format = options.pop("folder"), options.pop("format")
        with in_flags(**_KEYS):
            self._extract_settings = ExtractSettings("", **options)
        super().before_instantiate_classes()

    def predict(self, ckpt_path: str | None = None, **_: Any) -> None:
        """Extract.

        Raises:
            MVitVideoError: some videos have no features.
        """
        with in_flags(**_KEYS):
            self.guard(self._predict, {"checkpoint": ckpt_path})

    def _predict(self, checkpoint: str | None) -> None:
        precision, strategy = str(self.trainer.precision), self.trainer.strategy
        if precision not in _PRECISIONS:
            raise ConfigError(
                f"trainer.precision={precision}: features are extracted in one of {', '.join(_PRECISIONS)}"
            )
        # "popen": this program is started once per device; other ways would send it to them, which cannot be pickled
        is_ddp = isinstance(strategy, DDPStrategy) and strategy._start_method == "popen"
        if not is_ddp and not isinstance(strategy, SingleDeviceStrategy):
            given = self.settings.trainer.strategy
            name = given if isinstance(given, str) else type(strategy).__name__
            raise ConfigError(f"trainer.strategy={name}: predict runs only with ddp, each process with the whole net")
        changes = {"precision": _PRECISIONS[precision], "device": str(strategy.root_device)}
        settings = replace(self._extract_settings, **changes)
        summary = in_processes(self.trainer, lambda: self._extract_share(settings, checkpoint), self.advice_on_stop())
        if not self.trainer.is_global_zero:
            return
        for line in describe(summary):
            print(line)
        if summary.num_failed:
            raise MVitVideoError(f"{summary.num_failed:,} of {summary.num_videos:,} videos have no features")

    def _extract_share(self, settings: ExtractSettings, checkpoint: str | None) -> Summary:
        """Extract the share of this process."""
        trained, data = self._trained_model(checkpoint), self.datamodule
        records = [one for one in cast(Any, self.trainer).callbacks if isinstance(one, (RunRecord, SaveConfigCallback))]
        for record in records:
            record.setup(self.trainer, self.model, "predict")
        extractor = Extractor(replace(settings, model=trained.name), trained)
        folder = self.run_folder.parent / FEATURES / f"{settings.layer}-{extractor.key[:8]}"
        is_first = self.trainer.is_global_zero
        try:
            summary = extract_videos(
                join_tables([data.tables["predict"]]),
                extractor,
                lambda videos, tell: extract_locally(videos, extractor, max(data.num_workers, 1), _LIMIT_SECONDS, tell),
                folder if self._folder is None else self._folder,
                self._format,
                Console() if is_first else Console(quiet=True, force_terminal=False),
            )
        except BaseException as error:
            for record in records:
                record.on_exception(self.trainer, self.model, error)
            raise
        for record in records:
            record.teardown(self.trainer, self.model, "predict")
        return summary

    def _trained_model(self, checkpoint: str | None) -> TrainedModel:
        """Return the net of the config with its weights, preprocessing and class names."""
        task, data, trainer = self.model, self.datamodule, self.trainer
        task.trainer = data.trainer = trainer
        data.setup("predict")
        init_from = task.init_from if checkpoint is None else None
        prepare_net(task.net, data, init_from, multi_label=task.multi_label, stage="predict")
        weights = checkpoint or (init_from and init_from.path)
        if checkpoint is not None:
            trainer.ckpt_path = checkpoint  # named where it does not fit
            content = trainer.strategy.checkpoint_io.load_checkpoint(checkpoint)
            task.on_load_checkpoint(content)
            task.load_state_dict(content["state_dict"])
            if (classes := content.get(type(data).__qualname__)) is not None:
                data.load_state_dict(classes)
        needs = Preprocessing(data.clip, data.input, data.views)
        name = str(weights or type(task.net).__name__)
        file = None if weights is None else Path(weights)
        return TrainedModel(task.net, name, file, needs, data.class_names, (), multi_label=task.multi_label)

    def advice_on_memory(self) -> str:
        """Return what to change where memory ran out."""
        return f"lower features.batch_size={self.settings.features.batch_size} or set trainer.precision=bf16-mixed"

    def advice_on_stop(self) -> str:
        """Return how to resume."""
        return "; the same command does the rest"

    def callbacks(self) -> list[Callback]:
        """Return the callbacks of every run."""
        return self.plan.record()

    def loggers(self) -> list[Logger]:
        """Return none: there are no numbers to log."""
        return []


def in_processes(trainer: Trainer, work: Callable[[], T], advice: str) -> T:
    """Run `work` in each process of the trainer's strategy, as a group, and return its result.

    Args:
        advice: end of the message where the work is stopped.

    Raises:
        Stopped: Ctrl-C or a termination signal; the started processes end too.
    """
    strategy, launcher = trainer.strategy, trainer.strategy.launcher

    def in_group() -> T:
        strategy.setup_environment()
        return work()

    with _interrupted_by(*TERMINATION_SIGNALS) as heard:
        try:
            return in_group() if launcher is None else launcher.launch(in_group)
        except KeyboardInterrupt:
            if launcher is not None:
                launcher.kill(signal.SIGTERM)
            raise Stopped(f"stopped{advice}" if trainer.is_global_zero else "", 143 if heard else 130) from None


@contextmanager
def _interrupted_by(*signums: int) -> Iterator[list[int]]:
    """Have signals act as Ctrl-C does; give the list of received ones."""
    heard: list[int] = []

    def on_signal(signum: int, _: Any) -> None:
        if not heard:  # `timeout` sends it twice: the second must not interrupt a write
            heard.append(signum)
            raise KeyboardInterrupt

    before = {signum: signal.signal(signum, on_signal) for signum in set(signums)}
    try:
        yield heard
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
