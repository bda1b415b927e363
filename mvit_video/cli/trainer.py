"""The verbs `fit`, `validate` and `test`: LightningCLI with this project's task, data module and run folders."""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mvit_video.cli import TRAINER_VERBS, Stopped
from mvit_video.cli.keys import DESCRIPTIONS
from mvit_video.cli.options import existing
from mvit_video.cli.parser import Parser, read_yaml_our_way, words_in_full
from mvit_video.cli.wording import failed_class, in_flags, missing_metric, out_of_memory, quiet_lightning
from mvit_video.data.loader import explain_dead_worker
from mvit_video.evaluation import MultiViewEvaluation
from mvit_video.runs.folder import (
    CONFIG,
    checkpoint_path,
    claim_version,
    find_checkpoint,
    next_version,
    run_name,
    run_of,
)
from mvit_video.runs.predictions import PREDICTIONS
from mvit_video.training import (
    TERMINATION_SIGNALS,
    AtomicCheckpointIO,
    BestCheckpoint,
    ProgressBar,
    RunPlan,
    StopBetweenSteps,
    Task,
    run_loggers,
)
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.training.output import print_line
from mvit_video.types import CheckpointError, ConfigError, MVitVideoError, TrainingError


def run(words: list[str]) -> int:
    """Run the verb that `words` begin with."""
    return run_cli(VideoCLI, Trainer, words)


def run_cli(cli: type[VideoCLI], trainer: type[Trainer], words: list[str]) -> int:
    """Run a verb with a command line."""
    quiet_lightning()
    read_yaml_our_way()
    try:
        cli(
            Task,
            VideoDataModule,
            trainer_class=trainer,
            args=words_in_full(words),
            parser_class=Parser,
            parser_kwargs={
                "prog": "mvit-video",
                "allow_abbrev": False,
                **{verb: {"description": DESCRIPTIONS[verb][0]} for verb in cli.subcommands()},
            },
            trainer_defaults={"use_distributed_sampler": False, "enable_model_summary": False, "log_every_n_steps": 10},
            seed_everything_default=0,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )
    except MisconfigurationException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except SystemExit as stop:  # after --help
        return int(stop.code or 0)
    return 0


# settings that are or may be paths
_PATHS = (
    "data.train", "data.val", "data.test", "data.predict", "data.root", "data.classes.names",
    "data.loading.index_cache", "model.init_from.path", "features.folder",
)  # fmt: skip


class SaveConfig(SaveConfigCallback):
    """Writer of a `config.yaml` that works from any folder: absolute paths, no base, no checkpoint (see `run.json`)."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **options: Any) -> None:
        config = config.clone()
        config.ckpt_path = config.base = None
        for key in _PATHS:
            path = config.get(key)
            if isinstance(path, str) and "://" not in path:
                config[key] = os.path.abspath(path)
        super().__init__(parser, config, **options)


class VideoCLI(LightningCLI):
    """Command line of one task and one data module, which writes to a run folder `<root>/<config>/version_<n>`."""

    run_folder: Path
    _made_folder = False  # by this process, so that it may remove it

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verbs, each with the arguments of its method that are no options."""
        theirs = LightningCLI.subcommands()
        return {verb: theirs[verb] | {"verbose", "weights_only"} for verb in TRAINER_VERBS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that belong to no class."""
        net: Any = next(action for action in parser._actions if action.dest == "model.net")
        net.extra_help = lambda: ""  # else every nn.Module of torch; the short help lists the models
        parser.add_argument(
            "--base", type=str | None, help="in a config file: the config that it changes, relative to its folder"
        )
        parser.add_argument(
            "--checkpoint_every_n_steps",
            type=int | None,
            help="optimiser steps between two last.ckpt within an epoch; null writes it after each epoch only",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the words that `run_cli` prepared."""
        self.config = parser.parse_args(args)  # pyright: ignore[reportArgumentType]

    def _parse_ckpt_path(self) -> None:
        # Lightning would let the hyperparameters in a checkpoint silently override YAML and flags
        pass

    def before_instantiate_classes(self) -> None:
        """Find the run folder and the checkpoint, before anything slow is built."""
        config = self.settings
        configs = [str(path) for path in config.config or []]
        root = Path(config.trainer.default_root_dir or "runs") / run_name(configs)
        self._own_run = run_of(configs)
        weights = config.get("model.init_from.path") if config.ckpt_path is None else None
        if weights is not None and (reason := existing(weights)) is not None:
            raise ConfigError(f"model.init_from.path={weights}: {reason}")
        if config.ckpt_path is not None:
            with in_flags(ckpt_path="--ckpt_path"):
                found = find_checkpoint(str(config.ckpt_path), root, self._own_run, rank_zero_warn)
            config.ckpt_path = str(found)
            if rank_zero_only.rank == 0:  # pyright: ignore[reportFunctionMemberAccess]
                print(f"checkpoint: {config.ckpt_path}")
        elif self.subcommand != "fit" and config.model.init_from is None:
            warnings.warn("without --ckpt_path the weights are random", stacklevel=2)
        is_writer = rank_zero_only.rank == 0 and not config.trainer.fast_dev_run  # pyright: ignore[reportFunctionMemberAccess]
        self.run_folder = self.find_folder(root, make=is_writer)
        self.stopper = StopBetweenSteps(self._checkpoint("last"))
        # Ctrl-C and SIGTERM go to the process group: loader workers in it would die before the run is saved
        multiprocessing.util.register_after_fork(self, lambda _: os.setpgrp())

    def instantiate_classes(self) -> None:
        """Build everything; a run that fails here leaves no empty folder."""
        try:
            super().instantiate_classes()
            if self.settings.ckpt_path is not None:
                self.model.init_from = None  # the checkpoint has all weights
        except BaseException as error:
            _remove_if_empty(self.run_folder)
            _remove_if_empty(self.run_folder.parent)
            if isinstance(error, ValueError) and (text := failed_class(error)):
                raise ConfigError(text) from error
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the callbacks and loggers of a run to the user's trainer settings."""
        config = self._get(self.config_init, "trainer")
        loggers = config.logger
        if loggers is None or loggers is True:
            loggers = []
        if loggers is not False:
            loggers = [*self.loggers(), *(loggers if isinstance(loggers, list) else [loggers])]
        bar = config.enable_progress_bar is not False and sys.stdout.isatty()
        theirs, ours = _as_list(config.callbacks), self.callbacks()
        if any(isinstance(one, MultiViewEvaluation) for one in theirs):  # with settings of its own
            ours = [one for one in ours if not isinstance(one, MultiViewEvaluation)]
        callbacks = [*theirs, *ours, *([ProgressBar()] if bar else [])]
        try:
            return super().instantiate_trainer(
                callbacks=callbacks,
                logger=loggers,
                plugins=[*_as_list(config.plugins), AtomicCheckpointIO()],
                enable_progress_bar=bar,
                default_root_dir=self.run_folder,
                **kwargs,
            )
        except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
            raise ConfigError(_refusal(str(error), config)) from error

    def fit(self, **kwargs: Any) -> None:
        """Train, and print the run folder, the best epoch and the command that tests it."""
        self.guard(self.trainer.fit, kwargs)
        if self.trainer.is_global_zero and self.plan.folder is not None:
            print_line(f"run folder: {self.run_folder}")
        for best in cast(Any, self.trainer).checkpoint_callbacks:
            if isinstance(best, BestCheckpoint) and best.best_k_models and self.trainer.is_global_zero:
                print_line(best.describe())
                config = shlex.quote(str(self.run_folder / CONFIG))
                print_line(f"test it: mvit-video test -c {config} --ckpt_path best")

    def validate(self, **kwargs: Any) -> None:
        """Score the validation videos."""
        self.guard(self.trainer.validate, kwargs)

    def test(self, **kwargs: Any) -> None:
        """Score the test videos, and print the command that makes a report; `MultiViewEvaluation` prints the result."""
        self.guard(self.trainer.test, kwargs | {"verbose": False})
        if self.trainer.is_global_zero and (self.run_folder / PREDICTIONS).exists():
            print_line(f"report: mvit-video report {shlex.quote(str(self.run_folder))}")

    def guard(self, work: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        """Run `work`; turn its errors into messages, and remove the folder of a run that could not begin."""
        try:
            work(**kwargs)
        except (ConfigError, CheckpointError):
            if self._made_folder and not self.has_begun():
                shutil.rmtree(self.run_folder, ignore_errors=True)
                _remove_if_empty(self.run_folder.parent)
            raise
        except TrainingError:
            if not self.trainer.is_global_zero:  # one of several processes prints
                raise Stopped("", 1) from None
            raise
        except (RuntimeError, MemoryError) as error:
            if death := explain_dead_worker(error):
                raise death from None
            if text := missing_metric(error):
                raise ConfigError(text) from error
            if text := out_of_memory(error):
                raise MVitVideoError(f"{text}: {self.advice_on_memory()}") from error
            raise
        except SystemExit as stop:
            terminated = isinstance(stop, SIGTERMException) or self.stopper.signum in TERMINATION_SIGNALS
            if not terminated and not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            message = "stopped" if self.trainer.is_global_zero else ""
            if self.trainer.is_global_zero:
                message += self.advice_on_stop()
            raise Stopped(message, 143 if terminated else 130) from None

    def advice_on_memory(self) -> str:
        """Return what to change where memory ran out."""
        name = "batch_size" if self.subcommand in ("fit", "validate") else "test_batch_size"
        advice = f"lower data.loading.{name}={getattr(self.datamodule.loading, name)}"
        if self.subcommand != "fit":
            return f"{advice} or set trainer.precision=bf16-mixed"
        return (
            f"{advice} and raise trainer.accumulate_grad_batches as much, set trainer.precision=bf16-mixed, or "
            "model.speed.activation_checkpointing=true"
        )

    def find_folder(self, root: Path, *, make: bool) -> Path:
        """Return the run folder."""
        self._made_folder = make
        return claim_version(root) if make else next_version(root)

    def has_begun(self) -> bool:
        """Return whether the run folder has something that a later run can use."""
        return self._checkpoint("last").exists()

    def advice_on_stop(self) -> str:
        """Return how to resume a stopped run."""
        if not self.stopper.saved:
            return ""
        if self._own_run is not None:  # whose `last` is another file
            return f"; the same command with --ckpt_path {self.stopper.path} resumes the run"
        return f"; the same command with --ckpt_path last resumes from {self.stopper.path}"

    @property
    def settings(self) -> Namespace:
        return self.config[str(self.subcommand)]

    def _checkpoint(self, name: str) -> Path:
        return checkpoint_path(self.run_folder, name)

    @property
    def plan(self) -> RunPlan:
        """Callbacks of the run."""
        settings = self.settings
        seed = None if settings.seed_everything is False else int(settings.seed_everything)
        return RunPlan(None if settings.trainer.fast_dev_run else self.run_folder, seed, settings.ckpt_path)

    def callbacks(self) -> list[Callback]:
        """Return the callbacks of the run; those of the user come before them."""
        settings, plan = self.settings, self.plan
        if self.subcommand == "test":
            return plan.score(MultiViewEvaluation(plan.folder))
        if self.subcommand == "validate":
            return plan.score()
        return plan.fit(
            self.stopper,
            max_failure_rate=settings.data.loading.max_failure_rate,
            checkpoint_every_n_steps=settings.checkpoint_every_n_steps,
            keep_checkpoints=settings.trainer.enable_checkpointing is not False,
        )

    def loggers(self) -> list[Logger]:
        """Return the loggers of the run; those of the user come after them."""
        return run_loggers(self.run_folder)


def _refusal(text: str, config: Namespace) -> str:
    """Return why Lightning refuses the settings of the trainer, with the key that it probably means."""
    line = " ".join(text.split()).partition(" Find a complete list")[0]
    if re.search(r"No supported \w+ backend|can not run on your system|No (CUDA )?(GPU|device)s? ", line):
        return f"trainer.accelerator={config.accelerator}: torch finds none on this machine; set it to auto or cpu"
    named = next(
        (word for word in re.findall(r"\w+", line) if word in config), None
    )  # it names the wrong setting first
    if named is None:
        return f"trainer: {line}"
    value = config[named]
    return f"trainer.{named}={value}: {line}" if isinstance(value, (str, int, float)) else f"trainer.{named}: {line}"


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # something is in it
        folder.rmdir()
