"""Multi-view test of a trained model without a trainer."""

from __future__ import annotations

import os

import numpy as np
import torch

from mvit_video.data import VideoTable, find_videos
from mvit_video.data.clips.views import UniformViews
from mvit_video.data.dataset import OnError, VideoDataset
from mvit_video.data.loader import EpochSampler, VideoLoader
from mvit_video.data.readers import IndexCache
from mvit_video.data.splits import Order, number_classes
from mvit_video.evaluation.result import Decoding, Evaluation, Setting
from mvit_video.evaluation.scores import ViewScores
from mvit_video.jobs import num_cores
from mvit_video.runs.inference import choose_device, mixed_precision
from mvit_video.runs.trained_model import TrainedModel, load_model
from mvit_video.types import Backend, ConfigError, Precision

_MAX_WORKERS = 8


def evaluate(
    model: str | os.PathLike[str] | TrainedModel,
    data: str | os.PathLike[str] | VideoTable,
    num_clips: int = 5,
    num_crops: int = 1,
    *,
    root: str | None = None,
    batch_size: int = 1,
    num_workers: int | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    backend: Backend = "decord",
    on_error: OnError = "raise",
) -> Evaluation:
    """Score a model on labelled videos over several views of each, with the numbers of `mvit-video test`.

    Args:
        model: run folder, checkpoint of any known format, or name of a model; or a loaded one.
        data: folder with a folder of videos per class, annotation file, or table.
        num_clips: clips, spread over each video.
        num_crops: 1 or 3 crops of each clip.
        root: folder that relative paths of annotations start from; None is that of the annotations.
        batch_size: videos that the model takes at once, each with all its views.
        num_workers: loader processes; None is one per core, at most 8 and one per video.
        device: "auto" is a GPU where there is one.
        precision: precision of the model.
        backend: library that decodes.
        on_error: "raise" at a video that cannot be read, or "skip" it and list it among the failures.

    Raises:
        ConfigError: an argument is impossible, or the videos have other classes than the model.
        AnnotationError: the annotations cannot be read.
        CheckpointError: the checkpoint cannot be read.
        VideoDecodeError: a video cannot be read.

    Examples:
        >>> result = mv.evaluate("runs/demo/version_0", "data", num_clips=2)
        >>> result.probabilities.shape
        torch.Size([6, 3])
        >>> 0 <= result.metrics["top1"] <= 100
        True
    """
    trained = load_model(model)
    table = _labelled_videos(trained, data, root)
    rule, needs = trained.preprocessing.test_views(num_clips, num_crops), trained.preprocessing.input
    dataset = VideoDataset(
        table,
        rule,
        backend=backend,
        short_side=needs.decode_short_side,
        index_cache=None if table.index_cache is None else IndexCache(table.index_cache),
        on_error="skip",  # the loader raises
        num_classes=trained.net.num_classes,
    )
    workers = min(num_cores(), _MAX_WORKERS, len(table)) if num_workers is None else num_workers
    sampler = EpochSampler(len(table), shuffle=False, even=False)
    loader = VideoLoader(dataset, on_error=on_error, batch_size=batch_size, sampler=sampler, num_workers=workers)
    return _scored(trained, loader, rule, choose_device(device), precision)


def _scored(
    trained: TrainedModel, loader: VideoLoader, rule: UniformViews, device: torch.device, precision: Precision
) -> Evaluation:
    table = loader.dataset.table  # pyright: ignore[reportAttributeAccessIssue]
    net, scores = trained.net.to(device).eval(), ViewScores(rule.views.num_views, trained.net.num_classes)
    failures: dict[int, str] = {}
    decodings: dict[int, Decoding] = {}
    for batch in loader:
        failures |= {failure.video: failure.reason for failure in batch.failures}
        decodings |= {one.video: Decoding.of(one) for one in batch.decodes}
        if len(batch.clip):
            with torch.inference_mode(), mixed_precision(device, precision):
                logits = net(batch.clip.to(device))
            scores.update(trained.scores(logits.float()), batch.video, batch.view, batch.seconds)
    views = scores.gather(np.setdiff1d(np.arange(len(table)), list(failures)), table.path)
    assert views is not None
    return Evaluation.of_views(table, Setting.of_table(rule, table), views, failures, decodings)


def _labelled_videos(trained: TrainedModel, data: str | os.PathLike[str] | VideoTable, root: str | None) -> VideoTable:
    """Return the videos with their classes numbered as the model does."""
    table = data if isinstance(data, VideoTable) else find_videos(os.fspath(data), root)
    where = "data" if isinstance(data, VideoTable) else f"data={os.fspath(data)}"
    names, num_classes = trained.class_names, trained.net.num_classes
    if names is not None:
        odd = sorted(set(table.class_names or ()) - set(names))
        if odd:
            raise ConfigError(f"{where}: class {odd[0]!r} is none of {trained.name}; remove or rename it")
        table = number_classes(Order(names, trained.name), "test", table, needs_labels=True)
    if table.num_classes > num_classes:
        raise ConfigError(f"{where}: has class {table.num_classes - 1}, {trained.name} has {num_classes} classes")
    if table.is_multilabel != trained.multi_label:
        has, needs = ("lists of labels", "one") if table.is_multilabel else ("one label", "a list")
        raise ConfigError(f"{where}: has {has} per video, {trained.name} was trained with {needs} for each")
    return table
