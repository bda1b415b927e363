"""Trained models: a net, the clips that it was trained on, and the names of its classes."""

from __future__ import annotations

import difflib
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvit_video.checkpoints import (
    FACTS_ASSUMED,
    LoadReport,
    UnknownArchitectureError,
    build_model,
    checkpoint_in,
    create_model,
    read_checkpoint,
    save_checkpoint,
)
from mvit_video.checkpoints.folders import SAVED
from mvit_video.data.clips.protocols import published_short_side
from mvit_video.data.clips.transforms import Normalize
from mvit_video.data.clips.views import UniformViews
from mvit_video.data.dataset import open_for_views
from mvit_video.data.readers import Backend
from mvit_video.data.settings import InputSpec
from mvit_video.jobs.files import read_json_object, write_json_object
from mvit_video.models import VideoNet, list_models, variants
from mvit_video.models.published import TrainingFacts
from mvit_video.runs.folder import read_config, run_with
from mvit_video.runs.settings import typed_settings
from mvit_video.types import CheckpointError, ClipSpec, ConfigError, ViewSpec, printable

_log = logging.getLogger(__name__)
_RANDOM = "random weights, so its results mean nothing: give a checkpoint or a run folder"

SETTINGS = "config.json"  # beside the weights of a saved model
_OF_CLIPS = {"clip": ClipSpec, "input": InputSpec, "views": ViewSpec}  # settings of `data` in a config
_NUM_NAMES = 8


@dataclass(frozen=True)
class Preprocessing:
    """What a model expects of a clip, as the keys of `data` in a config state it.

    Attributes:
        clip: which source frames make a clip.
        input: size and scale of what the model sees of a frame.
        views: how frames are resized and clips placed at test; its numbers of clips and crops are those of the run.

    Examples:
        >>> mv.load_model("runs/demo/version_0").preprocessing.short_side(num_crops=1)
        36
    """

    clip: ClipSpec
    input: InputSpec
    views: ViewSpec

    def short_side(self, num_crops: int = 1) -> int:
        """Return the pixels of the shorter edge before cropping."""
        size = self.input.crop_size
        return max(self.views.short_side or published_short_side(size, num_crops), size)

    def test_views(self, num_clips: int, num_crops: int) -> UniformViews:
        """Return the rule that makes the views of a test.

        Raises:
            ConfigError: the protocol has no such views.
        """
        views = replace(self.views, num_clips=num_clips, num_crops=num_crops, frame_order="forward", corruption=None)
        return UniformViews(self.clip, self.input.crop_size, views, Normalize(self.input.mean, self.input.std))


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A net with its weights, its preprocessing and the names of its classes.

    Attributes:
        name: source as the user gave it.
        checkpoint: file of the weights; None where they are random.
        class_names: name of each class, where the checkpoint has them.
        notes: warnings for the user, one line each.
        config: config of the run; empty without a run.
        multi_label: scores are a sigmoid for each class instead of a softmax over all.

    Examples:
        >>> model = mv.load_model("runs/demo/version_0")
        >>> clips = model.preprocess("v.mp4", num_clips=2)
        >>> clips.shape
        torch.Size([2, 3, 4, 32, 32])
        >>> model.scores(model.net(clips)).shape
        torch.Size([2, 3])
    """

    net: VideoNet
    name: str
    checkpoint: Path | None
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    multi_label: bool = False

    def __str__(self) -> str:
        clip, seen, views = self.preprocessing.clip, self.preprocessing.input, self.preprocessing.views
        names = self.class_names or ()
        listed = f": {', '.join(names[:_NUM_NAMES])}{', ...' if len(names) > _NUM_NAMES else ''}" if names else ""
        size = sum(parameter.numel() for parameter in self.net.parameters()) / 1e6
        frames = "segments of the video" if clip.sampling == "segments" else f"{clip.sampling_rate} apart"
        rows = {
            "model": f"{self._net_name}, {size:.2f} M parameters",
            "classes": f"{self.net.num_classes}{listed}",
            "clip": f"{clip.num_frames} frames, {frames} at {clip.target_fps:g} fps; crops of {seen.crop_size} pixels "
            f"from a short side of {self.preprocessing.short_side()} ({views.interpolation})",
            "scores": "sigmoid" if self.multi_label else "softmax",
            "weights": "random" if self.checkpoint is None else str(self.checkpoint),
        }  # fmt: skip
        return "\n".join([printable(self.name), *(f"  {name:<8} {printable(text)}" for name, text in rows.items())])

    def __repr__(self) -> str:
        clip, net = self.preprocessing.clip, self.net
        size = f"{net.num_classes} classes, clips {clip.num_frames}x{clip.sampling_rate} of {net.crop_size} pixels"
        return f"<TrainedModel {self.name!r}: {self._net_name}, {size}>"

    @property
    def _net_name(self) -> str:
        return type(self.net).__name__ if self.net.recipe is None else self.net.recipe.name

    @property
    def report(self) -> LoadReport | None:
        """Report on loading the checkpoint; None without one."""
        return self.net.load_report

    def preprocess(
        self,
        video: str | PathLike[str] | bytes,
        num_clips: int = 5,
        num_crops: int = 1,
        *,
        backend: Backend = "pyav",
    ) -> Tensor:
        """Return the clips of a video that the net takes, `(num_clips * num_crops, 3, T, H, W)`.

        They are the views that `evaluate` scores.

        Args:
            video: file, or its bytes.
            num_clips: clips, spread over the video.
            num_crops: 1 or 3 crops of each clip.
            backend: library that decodes.

        Raises:
            ConfigError: the model has no such views.
            VideoDecodeError: the video cannot be read.
        """
        views = self.preprocessing.test_views(num_clips, num_crops)
        short_side = None if self.preprocessing.input.decode_short_side is None else views.short_side
        source = video if isinstance(video, bytes) else Path(video)
        with open_for_views(views, source, backend, short_side) as reader:
            return views(reader).clip.to(next(self.net.parameters()).device)

    def scores(self, logits: Tensor) -> Tensor:
        """Return the probabilities of logits `(..., C)`: a sigmoid of each class, or a softmax over all."""
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)

    def save(self, folder: str | PathLike[str]) -> None:
        """Write a folder that `load_model` reads: `model.safetensors` and `config.json`.

        Raises:
            CheckpointError: no builder makes the net, or a file cannot be written.
        """
        facts = TrainingFacts(
            self.preprocessing.input.mean, self.preprocessing.input.std, self.preprocessing.clip.sampling_rate,
            "sigmoid" if self.multi_label else "softmax",
        )  # fmt: skip
        assumed = {"weights": _RANDOM} if self.checkpoint is None else self.report.assumed if self.report else {}
        place = Path(folder)
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{place}: cannot be written ({error.strerror}); give another folder") from error
        save_checkpoint(self.net, place / SAVED, class_names=self.class_names, facts=facts, assumed=assumed)
        settings = {"model": {"multi_label": self.multi_label}, "data": asdict(self.preprocessing)}
        write_json_object(place / SETTINGS, settings)

    def digest(self) -> str:
        """Return a hash of the weights and their names."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self.net.state_dict().items()):
            digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def load_model(source: str | PathLike[str] | TrainedModel, *, class_names: Sequence[str] | None = None) -> TrainedModel:
    """Load a net with its preprocessing, as the config of its run or the checkpoint states it.

    The log warns of everything in `notes`.

    Args:
        source: run folder, checkpoint of any known format, folder of `TrainedModel.save`, or name of a model, which
            then has random weights; a loaded model is returned as it is.
        class_names: name of each class; None takes those of the checkpoint.

    Raises:
        ConfigError: there is no such model, or it has another number of classes than there are names.
        CheckpointError: the checkpoint cannot be read, or does not state which model it is of.

    Examples:
        >>> model = mv.load_model("runs/demo/version_0")
        >>> model.class_names
        ('jump', 'run', 'sit')
        >>> model.save("saved")
        >>> mv.load_model("saved").class_names
        ('jump', 'run', 'sit')
    """
    if isinstance(source, TrainedModel):
        trained = source
    else:
        source = fspath(source)
        trained = _of_name(source) if source in list_models() else _of_checkpoint(source)
        trained.net.eval()
        for note in trained.notes:
            _log.warning("%s", note)
    if class_names is None:
        return trained
    if len(class_names) != trained.net.num_classes:
        expected = f"source={trained.name} has {trained.net.num_classes} classes"
        raise ConfigError(f"class_names holds {len(class_names)} names, {expected}")
    return replace(trained, class_names=tuple(class_names))


def _of_name(name: str) -> TrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same weights every time, so that an extraction can be resumed
        net = create_model(name)
    facts = variants()[name].facts
    needs, is_sigmoid = _preprocessing(net, facts, {}), facts.activation == "sigmoid"
    return TrainedModel(net, name, None, needs, None, (f"{name} has {_RANDOM}",), multi_label=is_sigmoid)


def _of_checkpoint(source: str) -> TrainedModel:
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
    stated = config or _saved_settings(file)
    choices = (re.sub(r"use_ema=(True|False)", partial(_option, source), note) for note in stored.notes)
    notes = (*choices, *(line for key, line in report.assumed.items() if key != FACTS_ASSUMED or not stated))
    task = stated.get("model")
    multi_label = isinstance(task, Mapping) and task.get("multi_label") is True
    return TrainedModel(
        net,
        source,
        file,
        _preprocessing(net, report.facts, stated.get("data")),
        stored.class_names,
        notes,
        config,
        multi_label=multi_label if stated else report.facts.activation == "sigmoid",
    )


def _option(source: str, choice: re.Match[str]) -> str:
    """Return `use_ema=...` as a command."""
    return f"mvit-video convert {source} OUT --to mvit_video {'--use-ema' if choice[1] == 'True' else '--no-use-ema'}"


def _config_of(source: Path, file: Path) -> Mapping[str, Any]:
    """Return the config of the run folder that the user named, or in which a checkpoint lies."""
    runs = (source if source.is_dir() else None, run_with(file))
    try:
        return next((config for run in runs if run is not None and (config := read_config(run))), {})
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def _saved_settings(file: Path) -> Mapping[str, Any]:
    """Return what `TrainedModel.save` wrote beside the weights; empty where it did not write them."""
    settings = file.with_name(SETTINGS)
    if file.name != SAVED or not settings.exists():
        return {}
    try:
        return read_json_object(settings)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{settings}: cannot be read ({error}); save the model again") from error


def _preprocessing(net: VideoNet, facts: TrainingFacts, data: Any) -> Preprocessing:
    """Return the preprocessing that a config states, else the one that the weights were trained with."""
    try:
        stated = typed_settings(data, _OF_CLIPS, "data")
        clip = stated.get("clip", ClipSpec(net.num_frames, facts.sampling_rate))
        if clip.num_frames != net.num_frames:
            raise ConfigError(f"data.clip.num_frames={clip.num_frames}, the net has {net.num_frames}")
        if data:  # a run that does not state it was trained with the default of the data module
            seen, views = stated.get("input", InputSpec()), stated.get("views", ViewSpec())
        else:  # every published recipe of images resizes bicubically, of videos bilinearly
            seen = InputSpec(mean=facts.mean, std=facts.std)
            views = ViewSpec(interpolation="bicubic" if net.num_frames == 1 else "bilinear")
        seen = replace(seen, crop_size=net.crop_size)
    except ConfigError as error:
        raise CheckpointError(f"the config beside the checkpoint does not describe it ({error})") from error
    return Preprocessing(clip, seen, views)
