"""The verb `predict`: features by the config and with the manners of `test`."""

from __future__ import annotations

from typing import Any, ClassVar

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from mvit_video.cli.trainer import VideoCLI, run_cli
from mvit_video.features.prediction import FeatureExtraction
from mvit_video.training import RunRecord
from mvit_video.types import ConfigError, MVitVideoError


def run(words: list[str]) -> int:
    """Extracts features of the videos of `data.predict`."""
    return run_cli(PredictCLI, Trainer, words)


class PredictCLI(VideoCLI):
    """As `test`; features go beside the run folders of the config, where the next run finds them."""

    descriptions: ClassVar = {
        "predict": "Write features of windows that slide over videos, as mvit-video extract does. A second run does "
        "only what is new, has changed or has failed. Example: mvit-video predict -c configs/demo.yaml "
        "--ckpt_path best --features.window 16 --features.stride 8"
    }

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The verb, and the arguments of the trainer's method that are not the user's."""
        return {"predict": {"model", "dataloaders", "datamodule", "return_predictions", "weights_only"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what to extract."""
        super().add_arguments_to_parser(parser)
        parser.add_lightning_class_args(FeatureExtraction, "features")

    def before_instantiate_classes(self) -> None:
        """Finds the run folder and the checkpoint.

        Raises:
            ConfigError: nothing is to be written.
        """
        trainer = self._settings.trainer
        if trainer.fast_dev_run:
            raise ConfigError("trainer.fast_dev_run writes nothing: leave it out, and give data.predict a few videos")
        trainer.enable_progress_bar = False  # videos tell more than batches
        super().before_instantiate_classes()

    def predict(self, **kwargs: Any) -> None:
        """Extracts.

        Raises:
            MVitVideoError: some videos have no features.
        """
        callback = next(one for one in self.trainer.callbacks if isinstance(one, FeatureExtraction))  # pyright: ignore
        callback.default_folder = self.run_folder.parent
        self._run(self.trainer.predict, kwargs | {"return_predictions": False})
        summary = callback.summary
        if summary is not None and summary.num_failed and self.trainer.is_global_zero:
            raise MVitVideoError(f"{summary.num_failed:,} of {summary.num_videos:,} videos have no features")

    def _how_to_need_less(self) -> str:
        return f"lower features.batch_size={self._settings.features.batch_size} or set trainer.precision=bf16-mixed"

    def _how_to_go_on(self) -> str:
        return "; the same command does the rest"

    def _callbacks(self) -> list[Callback]:
        seed = self._settings.seed_everything
        seed = None if seed is False else int(seed)
        return [RunRecord(self.run_folder, seed=seed, checkpoint=self._settings.ckpt_path)]

    def _loggers(self) -> list[Any]:
        return []
