"""The model that makes features, and what it was trained to see."""

from __future__ import annotations

import difflib
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mvit_video.checkpoints import (
    FACTS_ASSUMED,
    UnknownArchitectureError,
    checkpoint_in,
    create_model,
    create_with_report,
    read_checkpoint,
)
from mvit_video.data.clips.transforms import RGB, Normalize
from mvit_video.data.clips.views import published_short_side
from mvit_video.jobs.yaml_files import read_yaml
from mvit_video.models import VideoNet, list_models
from mvit_video.models.published import PUBLISHED, TrainingFacts
from mvit_video.runs.settings import typed_settings
from mvit_video.types import CheckpointError, ClipSpec, ConfigError, ViewSpec

_log = logging.getLogger(__name__)

# settings of `data` in a config
_OF_CLIPS = {"clip": ClipSpec, "views": ViewSpec, "mean": RGB, "std": RGB}


@dataclass(frozen=True)
class Preprocessing:
    """What a model expects of a clip.

    Attributes:
        short_side: pixels of the shorter edge before cropping.
        mean: of each channel, for pixels between 0 and 1.
        std: of each channel, for pixels between 0 and 1.
    """

    clip: ClipSpec
    crop_size: int
    short_side: int
    mean: RGB
    std: RGB


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

    def digest(self) -> str:
        """Hash of the weights and their names."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self.net.state_dict().items()):
            digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def load_trained(
    model: str, num_crops: int, argument: str = "--model", class_names: Sequence[str] | None = None
) -> TrainedModel:
    """A model by name, with random weights, or of a checkpoint or a run folder, with what its run says of clips.

    The log warns of everything in `notes`.

    Args:
        argument: where the user gave `model`, for messages.
        class_names: name of each class; None takes those that the checkpoint tells.

    Raises:
        ConfigError: there is no such model, or it has another number of classes than there are names.
        CheckpointError: the checkpoint cannot be read, or does not tell which model it is of.
    """
    if model in list_models():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same in every run, which else could not go on
            net = create_model(model)
        notes = (f"{model} has random weights, so that its results mean nothing: give a checkpoint or a run folder",)
        trained = TrainedModel(
            net, model, None, _preprocessing(net, PUBLISHED[model].facts, {}, num_crops), None, notes
        )
    else:
        trained = _of_checkpoint(model, num_crops, argument)
    for note in trained.notes:
        _log.warning("%s", note)
    if class_names is None:
        return trained
    if len(class_names) != trained.net.num_classes:
        raise ConfigError(
            f"--class-names holds {len(class_names)} names, {argument} {model} has {trained.net.num_classes} classes"
        )
    return replace(trained, class_names=tuple(class_names))


def _of_checkpoint(model: str, num_crops: int, argument: str) -> TrainedModel:
    path = Path(model)
    if not path.exists():
        near = difflib.get_close_matches(model, list_models(), n=1)
        hint = f"did you mean {near[0]}?" if near else "mvit-video models lists the names"
        raise ConfigError(f"{argument} {model}: neither a file nor a name of a model; {hint}")
    try:
        file = checkpoint_in(path) if path.is_dir() else path
    except CheckpointError as error:
        raise ConfigError(f"{argument} {error}") from error
    try:
        stored = read_checkpoint(file)
        net, report = create_with_report(checkpoint=stored)
    except UnknownArchitectureError as error:
        hint = f"mvit-video convert {model} OUT --to mvit_video --model NAME makes a file that says it"
        raise error.advising(hint) from error
    assert report is not None
    assert report.facts is not None
    config = _run_config(path, file)
    preprocessing = _preprocessing(net, report.facts, config.get("data"), num_crops)
    choices = (re.sub(r"use_ema=(True|False)", partial(_option, model), note) for note in stored.notes)
    notes = (*choices, *(line for key, line in report.assumed.items() if key != FACTS_ASSUMED or not config))
    task = config.get("model")
    multi_label = isinstance(task, Mapping) and task.get("multi_label") is True
    return TrainedModel(
        net, model, file, preprocessing, stored.class_names, notes, config,
        multi_label=multi_label if config else report.facts.activation == "sigmoid",
    )  # fmt: skip


def _option(model: str, choice: re.Match[str]) -> str:
    """How a user of verbs makes the choice between weights that `choice` gives in words of Python."""
    return f"mvit-video convert {model} OUT --to mvit_video {'--use-ema' if choice[1] == 'True' else '--no-use-ema'}"


def _run_config(model: Path, file: Path) -> Mapping[str, Any]:
    """The config of the run folder that the user named, or in which a checkpoint lies."""
    of_file = [file.absolute().parents[1]] if file.absolute().parent.name == "checkpoints" else []
    folders = [model, *of_file] if model.is_dir() else of_file
    config = next((folder / "config.yaml" for folder in folders if (folder / "config.yaml").is_file()), None)
    if config is None:
        return {}
    try:
        content = read_yaml(config)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{config}: expected the config of a run, got a {type(content).__name__}")
    return content


def _preprocessing(net: VideoNet, facts: TrainingFacts, data: Any, num_crops: int) -> Preprocessing:
    """As the config of the run says, else as the weights were trained with."""
    try:
        told = typed_settings(data, _OF_CLIPS, "data")
        clip = told.get("clip", ClipSpec(net.num_frames, facts.sampling_rate))
        if clip.num_frames != net.num_frames:
            raise ConfigError(f"data.clip.num_frames={clip.num_frames}, the net has {net.num_frames}")
        usual = Normalize() if data else facts  # a run that does not say was trained with the data module's own
        mean, std = (told.get(key, getattr(usual, key)) for key in ("mean", "std"))
        short_side = told.get("views", ViewSpec()).short_side or published_short_side(net.crop_size, num_crops)
    except ConfigError as error:
        raise CheckpointError(f"the config.yaml beside the checkpoint does not describe it ({error})") from error
    return Preprocessing(clip, net.crop_size, max(short_side, net.crop_size), mean, std)
