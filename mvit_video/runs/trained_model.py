"""Trained models: a net, the clips that it was trained on, and the names of its classes."""

from __future__ import annotations

import difflib
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch

from mvit_video.checkpoints import (
    FACTS_ASSUMED,
    LoadReport,
    UnknownArchitectureError,
    build_model,
    checkpoint_in,
    create_model,
    read_checkpoint,
)
from mvit_video.data.clips.protocols import published_short_side
from mvit_video.data.clips.transforms import RGB
from mvit_video.data.settings import InputSpec
from mvit_video.models import VideoNet, list_models, variants
from mvit_video.models.published import TrainingFacts
from mvit_video.runs.folder import read_config, run_with
from mvit_video.runs.settings import typed_settings
from mvit_video.types import CheckpointError, ClipSpec, ConfigError, Interpolation, ViewSpec

_log = logging.getLogger(__name__)

# settings of `data` in a config
_OF_CLIPS = {"clip": ClipSpec, "views": ViewSpec, "input": InputSpec}


@dataclass(frozen=True)
class Preprocessing:
    """What a model expects of a clip.

    Attributes:
        short_side: pixels of the shorter edge before cropping.
        mean: of each channel, for pixels between 0 and 1.
        std: of each channel, for pixels between 0 and 1.
        interpolation: of resizing to the shorter edge.
    """

    clip: ClipSpec
    crop_size: int
    short_side: int
    mean: RGB
    std: RGB
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A net with weights, ready to infer.

    Attributes:
        name: as the user called it.
        checkpoint: file of the weights; None where they are random.
        class_names: name of each class, where the checkpoint tells.
        notes: what the user should know, one line each.
        config: of its run, where there is one.
        multi_label: scores are a sigmoid for each class instead of a softmax over all.
    """

    net: VideoNet
    name: str
    checkpoint: Path | None
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    multi_label: bool = False

    @property
    def report(self) -> LoadReport | None:
        """What came of loading the checkpoint; None without one."""
        return self.net.load_report

    def digest(self) -> str:
        """Hash of the weights and their names."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self.net.state_dict().items()):
            digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def load_model(
    source: str | PathLike[str], *, num_crops: int = 1, class_names: Sequence[str] | None = None
) -> TrainedModel:
    """Load a net with what it was trained to see, as the config of its run or the checkpoint states it.

    The log warns of everything in `notes`.

    Args:
        source: run folder, checkpoint of any known format, or name of a model, which then has random weights.
        num_crops: crops of each clip, on which the published size of frames depends where no run states one.
        class_names: name of each class; None takes those of the checkpoint.

    Raises:
        ConfigError: there is no such model, or it has another number of classes than there are names.
        CheckpointError: the checkpoint cannot be read, or does not state which model it is of.
    """
    source = fspath(source)
    trained = _of_name(source, num_crops) if source in list_models() else _of_checkpoint(source, num_crops)
    for note in trained.notes:
        _log.warning("%s", note)
    if class_names is None:
        return trained
    num_classes = trained.net.num_classes
    if len(class_names) != num_classes:
        raise ConfigError(f"class_names holds {len(class_names)} names, source={source} has {num_classes} classes")
    return replace(trained, class_names=tuple(class_names))


def _of_name(name: str, num_crops: int) -> TrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same weights every time, so that an extraction can be resumed
        net = create_model(name)
    notes = (f"{name} has random weights, so that its results mean nothing: give a checkpoint or a run folder",)
    return TrainedModel(net, name, None, _preprocessing(net, variants()[name].facts, {}, num_crops), None, notes)


def _of_checkpoint(source: str, num_crops: int) -> TrainedModel:
    path = Path(source)
    if not path.exists():
        near = difflib.get_close_matches(source, list_models(), n=1)
        hint = f"did you mean {near[0]}?" if near else "mvit-video models lists the names"
        raise ConfigError(f"source={source}: neither a file nor a name of a model; {hint}")
    try:
        file = checkpoint_in(path) if path.is_dir() else path
    except CheckpointError as error:
        raise ConfigError(f"source={error}") from error
    try:
        stored = read_checkpoint(file)
        net = build_model(checkpoint=stored)
    except UnknownArchitectureError as error:
        hint = f"mvit-video convert {source} OUT --to mvit_video --model NAME makes a file that says it"
        raise error.advising(hint) from error
    report = net.load_report
    assert report.facts is not None
    config = _config_of(path, file)
    choices = (re.sub(r"use_ema=(True|False)", partial(_option, source), note) for note in stored.notes)
    notes = (*choices, *(line for key, line in report.assumed.items() if key != FACTS_ASSUMED or not config))
    task = config.get("model")
    multi_label = isinstance(task, Mapping) and task.get("multi_label") is True
    return TrainedModel(
        net,
        source,
        file,
        _preprocessing(net, report.facts, config.get("data"), num_crops),
        stored.class_names,
        notes,
        config,
        multi_label=multi_label if config else report.facts.activation == "sigmoid",
    )


def _option(source: str, choice: re.Match[str]) -> str:
    """How a user of verbs makes the choice between weights that `choice` gives in words of Python."""
    return f"mvit-video convert {source} OUT --to mvit_video {'--use-ema' if choice[1] == 'True' else '--no-use-ema'}"


def _config_of(source: Path, file: Path) -> Mapping[str, Any]:
    """The config of the run folder that the user named, or in which a checkpoint lies."""
    runs = (source if source.is_dir() else None, run_with(file))
    try:
        return next((config for run in runs if run is not None and (config := read_config(run))), {})
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def _preprocessing(net: VideoNet, facts: TrainingFacts, data: Any, num_crops: int) -> Preprocessing:
    """As the config of the run says, else as the weights were trained with."""
    try:
        told = typed_settings(data, _OF_CLIPS, "data")
        clip = told.get("clip", ClipSpec(net.num_frames, facts.sampling_rate))
        if clip.num_frames != net.num_frames:
            raise ConfigError(f"data.clip.num_frames={clip.num_frames}, the net has {net.num_frames}")
        # a run that does not say was trained with the data module's own
        usual = told.get("input", InputSpec()) if data else facts
        # without a run: every published recipe of images resizes bicubically, of videos bilinearly
        usual_views = ViewSpec(interpolation="bicubic" if net.num_frames == 1 and not data else "bilinear")
        views = told.get("views", usual_views)
        short_side = views.short_side or published_short_side(net.crop_size, num_crops)
    except ConfigError as error:
        raise CheckpointError(f"the config.yaml beside the checkpoint does not describe it ({error})") from error
    return Preprocessing(
        clip, net.crop_size, max(short_side, net.crop_size), usual.mean, usual.std, views.interpolation
    )
