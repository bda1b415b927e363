"""Extraction by Lightning: a run's model, data and processes; windows, formats and manifest of `mvit-video extract`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.console import Console
from torch import Tensor, nn

from mvit_video.data.clips.views import published_short_side
from mvit_video.data.readers import Backend
from mvit_video.features.engines.local import Batches, Outcome, Waiting
from mvit_video.features.engines.streams import read_in_processes
from mvit_video.features.extraction import FEATURES, Results, Summary, describe, extraction_progress
from mvit_video.features.extractor import Extractor, ExtractSettings, Precision
from mvit_video.features.inputs import Inputs, Stamp, join_tables
from mvit_video.features.manifest import Manifest, claimed
from mvit_video.features.videos import Video
from mvit_video.features.writers import Format, writer_for
from mvit_video.jobs import Folder, WorkFailure
from mvit_video.jobs.distributed import all_gather_objects, from_first, on_first, rank_and_size
from mvit_video.models.layers import Layer
from mvit_video.runs.trained_model import Preprocessing, TrainedModel
from mvit_video.types import ConfigError

_PRECISIONS: dict[str, Precision] = {"32-true": "fp32", "16-mixed": "fp16", "bf16-mixed": "bf16"}
_LIMIT_SECONDS = 120.0


class FeatureExtraction(Callback):
    """Writes features of windows that slide over the videos of `data.predict`.

    Each process takes its share of the videos that have none yet, and writes files of its own.

    Args:
        folder: path or URL of where they go; None is `features/<layer>-<key>` in `default_folder`, so that other
            weights or windows have another one.
        format: of the features.
        layer: the embedding, the final tokens, the map of a stage, or the logits.
        window: such as "64" frames or "2.5s"; None is what a clip stands for.
        stride: from one window to the next, likewise; None is the window.
        num_crops: 1 or 3 crops of each window.
        keep_crops: keep the features of each crop, rather than their mean.
        batch_size: clips that the model takes at once; a window has one per crop.
        backend: library that decodes.
        decode_short_side: pixels of the shorter edge that larger frames are decoded to; None is what the crops need,
            0 the frames' own size.

    Attributes:
        default_folder: None is the trainer's `default_root_dir`.
        summary: what has become of the videos, once all is done.
    """

    def __init__(
        self,
        folder: str | None = None,
        format: Format = "parquet",
        layer: Layer = "pooled",
        window: str | None = None,
        stride: str | None = None,
        num_crops: int = 1,
        keep_crops: bool = False,
        batch_size: int = 8,
        backend: Backend = "pyav",
        decode_short_side: int | None = None,
    ) -> None:
        self.folder, self.format = folder, format
        self.settings = ExtractSettings(
            "", layer, window, stride, num_crops, keep_crops,
            batch_size=batch_size, backend=backend, decode_short_side=decode_short_side,
        )  # fmt: skip
        self.default_folder: Path | None = None
        self.summary: Summary | None = None
        self._share: _Share | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Has the loader of predictions read windows.

        Raises:
            ConfigError: the trainer's precision or strategy is none that features are extracted with.
        """
        if stage != "predict":
            return
        if str(trainer.precision) not in _PRECISIONS:
            known = ", ".join(_PRECISIONS)
            raise ConfigError(f"trainer.precision={trainer.precision}: features are extracted in one of {known}")
        if not isinstance(trainer.strategy, (DDPStrategy, SingleDeviceStrategy)):
            name = type(trainer.strategy).__name__
            raise ConfigError(
                f"trainer.strategy={name}: features are extracted by ddp, each process with the whole net"
            )
        cast(Any, pl_module).predict_layer = self.settings.layer
        # the key of an extraction has the weights in it, which are there when Lightning asks for the loader
        _data(trainer).predict_loader = lambda: self._begin(trainer).batches()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the features of the batch.

        Raises:
            SIGTERMException: the process was asked to end, which Lightning heeds in no other way here.
        """
        assert self._share is not None
        self._share.fill(batch, outputs)
        if trainer.received_sigterm:  # pyright: ignore[reportAttributeAccessIssue]
            raise SIGTERMException

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the manifest when all processes are done, and prints what has become of the videos."""
        assert self._share is not None
        self.summary = self._share.end()
        self._share = None
        if trainer.is_global_zero:
            for line in describe(self.summary):
                print(line)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keeps what is finished, for the next run."""
        if self._share is not None:
            self._share.leave()
            self._share = None

    def _begin(self, trainer: Trainer) -> _Share:
        task = cast(Any, trainer.lightning_module)  # pyright: ignore[reportAttributeAccessIssue]
        begins_with = None if task.init_from is None else task.init_from.path
        task.on_predict_start()  # weights of `init_from`, which Lightning would have loaded after this
        data = _data(trainer)
        was_training = task.net.training
        weights = cast(Any, trainer).ckpt_path or begins_with
        extractor = Extractor(*self._model(trainer, data, task.net, weights))
        task.net.train(was_training)  # the trainer puts it to rest, and wakes it afterwards
        folder = self.default_folder or Path(trainer.default_root_dir)
        own = folder / FEATURES / f"{self.settings.layer}-{extractor.key[:8]}"
        out = Folder(own if self.folder is None else self.folder)
        console = Console()
        if not trainer.is_global_zero:
            console = Console(quiet=True, force_terminal=False)
        inputs = join_tables([data.tables["predict"]])
        self._share = _Share(inputs, extractor, out, self.format, max(data.num_workers, 1), console)
        return self._share

    def _model(
        self, trainer: Trainer, data: Any, net: nn.Module, checkpoint: str | None
    ) -> tuple[ExtractSettings, TrainedModel]:
        settings, views = self.settings, data.test_views
        name = str(checkpoint or type(net).__name__)
        short_side = data.views.short_side or published_short_side(data.crop_size, settings.num_crops)
        needs = Preprocessing(
            data.clip, data.crop_size, max(short_side, data.crop_size), views.normalize.mean, views.normalize.std
        )
        trained = TrainedModel(
            cast(Any, net), name, Path(checkpoint) if checkpoint else None, needs, data.class_names, ()
        )
        changes = {"precision": _PRECISIONS[str(trainer.precision)], "device": str(trainer.strategy.root_device)}
        return replace(settings, model=name, **changes), trained


class WindowBatch:
    """Clips for `predict_step`; no tuple, or Lightning would walk through all that it holds."""

    def __init__(self, clip: Tensor, windows: Sequence[Waiting]) -> None:
        self.clip, self.windows = clip, windows


class _Counts(NamedTuple):
    """What one process has done."""

    extracted: int
    windows: int
    failed: int


class _Share:
    """This process's share of an extraction; see `extract_videos`."""

    def __init__(
        self, inputs: Inputs, extractor: Extractor, out: Folder, format: str, num_workers: int, console: Console
    ) -> None:
        self._inputs, self._extractor, self._out, self._num_workers = inputs, extractor, out, num_workers
        self._began = time.monotonic()
        record = extractor.record | {"format": format}
        self._writer = writer_for(format, out / FEATURES, record)
        self._manifest = Manifest(out, extractor.key)
        self._batches, self._stamps = Batches(), dict[str, Stamp]()
        self._results = Results(self._writer, self._manifest, self._stamps)
        self._open = ExitStack()

        def claim() -> Any:
            self._open.enter_context(claimed(out, record))
            plan = self._manifest.begin(inputs, self._writer)
            for line in plan.describe():
                print(line)
            self._writer.require_free(inputs.names.take(plan.todo).to_pylist())
            return plan.todo

        todo: Any = from_first(on_first(claim))
        rank, num_processes = rank_and_size()
        self._num_todo, self._todo = len(todo), todo[rank::num_processes]
        self._bar = self._open.enter_context(extraction_progress(console, len(self._todo)))

    def batches(self) -> Iterator[WindowBatch]:
        """Windows for the model, of several videos at once."""
        size, extractor = self._extractor.windows_per_batch, self._extractor
        pieces = read_in_processes(self._videos(), extractor.rule, self._num_workers, _LIMIT_SECONDS)
        pieces = self._open.enter_context(closing(pieces))
        for piece in chain(pieces, [None]):
            if piece is not None:
                self._keep(self._batches.add(piece))
            while windows := self._batches.take(size, whole=piece is not None):
                yield WindowBatch(extractor.clips([window.place for window in windows]), windows)

    def fill(self, batch: WindowBatch, outputs: Tensor) -> None:
        """Takes what the model made of a batch."""
        self._bar.add_windows(len(batch.windows))
        self._keep(self._batches.fill(batch.windows, self._extractor.finish(outputs)))

    def end(self) -> Summary:
        """Puts everything on disk, when all processes have."""
        self._results.save()
        counts = all_gather_objects(_Counts(
            self._results.num_extracted, self._results.num_windows, self._results.num_failed
        ))  # fmt: skip
        extracted, windows, failed = (sum(column) for column in zip(*counts, strict=True))

        def write() -> None:
            self._manifest.write()
            self._writer.finish()

        on_first(write)
        self._open.close()
        num_videos, seconds = len(self._inputs), time.monotonic() - self._began
        before = num_videos - self._num_todo
        return Summary(num_videos, extracted, windows, before, failed, seconds, self._out)

    def leave(self) -> None:
        """Puts what is finished on disk, without the others."""
        with self._open:
            self._results.save()
            if rank_and_size()[1] == 1:
                self._manifest.write()

    def _videos(self) -> Iterator[Video]:
        for number in self._todo.tolist():
            self._stamps[self._inputs.names[number].as_py()] = self._inputs.stamp(number)
            yield self._inputs.video(number)

    def _keep(self, outcomes: Iterator[Outcome]) -> None:
        for video, outcome in outcomes:
            self._results.add(video, outcome)
            self._bar.add_video(isinstance(outcome, WorkFailure))


def _data(trainer: Trainer) -> Any:
    return trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
