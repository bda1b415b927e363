"""Models by name, with random weights or the weights of a checkpoint."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from mvit_video.checkpoints.architecture import FACTS_ASSUMED, arguments_from, infer_architecture
from mvit_video.checkpoints.files import Source, read_checkpoint
from mvit_video.checkpoints.loading import fill
from mvit_video.checkpoints.translation import translate
from mvit_video.models.families import variants
from mvit_video.models.family import builders
from mvit_video.models.net import VideoNet
from mvit_video.nn import tune_for_cpu
from mvit_video.types import ConfigError

_log = logging.getLogger(__name__)
_SIZES = ("num_classes", "num_frames", "crop_size")  # None for the model's default
_OF_OTHER_PACKAGES = {"pretrained", "weights"}  # arguments with which other packages download weights


def create_model(
    name: str | None = None,
    *,
    num_classes: int | None = None,
    num_frames: int | None = None,
    crop_size: int | None = None,
    checkpoint: Source | None = None,
    use_ema: bool | None = None,
    **overrides: Any,
) -> VideoNet:
    """Build a model by name, with random weights or a checkpoint; without a name, build the model in the checkpoint.

    Its layers are tuned for inference on a CPU, see `nn.tune_for_cpu`; this changes nothing on another device.

    Args:
        num_classes: of the head; None for the checkpoint's, or else the model's default. Another number than the
            checkpoint's gives the model a new head, with a warning.
        num_frames: frames of a clip; None for the model's default.
        crop_size: height and width of a clip in pixels; None for the model's default.
        checkpoint: see `load_checkpoint`; loaded strictly.
        use_ema: see `load_checkpoint`.
        **overrides: other arguments of the builder function.

    Raises:
        ConfigError: no model has this name, or the builder has no such argument.
        CheckpointError: the checkpoint cannot be read, does not fit, or does not show its architecture.

    Examples:
        >>> import torch
        >>> model = mv.create_model("mvit_b_16x4", num_classes=10, num_frames=4, crop_size=32, depths=(1, 1))
        >>> model(torch.zeros(2, 3, 4, 32, 32)).shape
        torch.Size([2, 10])
    """
    stored = None if checkpoint is None else read_checkpoint(checkpoint, use_ema=use_ema)
    sizes = {"num_classes": num_classes, "num_frames": num_frames, "crop_size": crop_size}
    model = build_model(name, checkpoint=stored, **sizes, **overrides)
    report = model.load_report
    if stored is not None and report is not None:
        unsure = report.head_is_new or report.assumed.keys() - {FACTS_ASSUMED} or (stored.notes and use_ema is None)
        _log.log(logging.WARNING if unsure else logging.INFO, "%s", report)
    return model


def build_model(
    name: str | None = None, *, checkpoint: Source | None = None, use_ema: bool | None = None, **arguments: Any
) -> VideoNet:
    """Build a model as `create_model` does, without logging its `load_report`."""
    arguments = {key: value for key, value in arguments.items() if value is not None or key not in _SIZES}
    if habit := arguments.keys() & _OF_OTHER_PACKAGES:
        raise ConfigError(
            f"model {name}: no weights come with the package, so there is no argument {min(habit)}; download a file "
            "and give its path as checkpoint= (docs/guides/fine-tune.md)"
        )
    stored = None if checkpoint is None else read_checkpoint(checkpoint, use_ema=use_ema)
    chosen = set(arguments)
    if name is None:
        if stored is None:
            raise ConfigError("create_model needs the name of a model, a checkpoint, or both")
        found = translate(stored)
        sizes = {key: arguments.get(key) for key in ("num_frames", "crop_size")}
        recipe, notes = infer_architecture(found, **sizes)
        found.notes.extend(notes)
        model, origin = _built(f"of {found.name}", recipe.build, arguments), "as published"
    else:
        if name not in variants():
            raise _unknown_name(name)
        build = builders()[name]
        if stored is None:
            return tune_for_cpu(_built(name, build, arguments))
        with torch.device("meta"):
            shapes = _built(name, build, arguments)
        found = translate(stored, shapes)
        if "head.projection.bias" in found.tensors:
            arguments.setdefault("num_classes", len(found.tensors["head.projection.bias"]))
        arguments |= arguments_from(found, shapes, chosen)
        model, origin = _built(name, build, arguments), "as the model has it"
    tune_for_cpu(model).load_report = fill(model, found, new_head="num_classes" in chosen, origin=origin, chosen=chosen)
    return model


def _built(name: str, build: Callable[..., VideoNet], arguments: Mapping[str, Any]) -> VideoNet:
    try:
        return build(**arguments)
    except TypeError as error:
        found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if not found:
            raise ConfigError(f"model {name}: {error}") from error
        with torch.device("meta"):
            recipe = build().recipe
        known = [] if recipe is None else list(recipe.arguments)
        near = get_close_matches(found[1], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        raise ConfigError(f"model {name} has no argument {found[1]}; {hint}") from error


def _unknown_name(name: str) -> ConfigError:
    if Path(name).exists():
        return ConfigError(f"{name} is a file, not the name of a model; give it as checkpoint=")
    near = get_close_matches(name, variants(), n=1)
    hint = f"did you mean {near[0]}?" if near else f"mv.list_models() lists them: {', '.join(sorted(variants()))}"
    return ConfigError(f"there is no model {name!r}; {hint}")
