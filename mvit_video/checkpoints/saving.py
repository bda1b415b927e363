"""Save a model for this project, or export it in the layout of another."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mvit_video.checkpoints.architecture import Architecture, describe
from mvit_video.checkpoints.contents import CLASS_NAMES_KEY
from mvit_video.checkpoints.files import write_checkpoint
from mvit_video.checkpoints.inference import PYTORCHVIDEO_EPS
from mvit_video.checkpoints.layouts import FOREIGN_FORMATS, to_layout
from mvit_video.checkpoints.untraced import ASSUMED_KEY, FACTS_KEY
from mvit_video.models.architecture import Pooling
from mvit_video.models.net import VideoNet
from mvit_video.models.position import kinds_of
from mvit_video.models.published import TrainingFacts
from mvit_video.types import THW, CheckpointError, ConfigError

_log = logging.getLogger(__name__)


def save_checkpoint(
    model: VideoNet,
    path: str | PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    facts: TrainingFacts | None = None,
    assumed: Mapping[str, str] | None = None,
) -> None:
    """Write weights and the builder's arguments to a safetensors file, from which `create_model` makes the model again.

    Args:
        class_names: name of each class, for `classify` and other verbs that name classes.
        facts: what the weights were trained with, for `extract` and `classify`.
        assumed: lines of `LoadReport.assumed`, which are reported again when the file is loaded.

    Raises:
        CheckpointError: the model is none that a builder makes, or the file cannot be written.
    """
    metadata = {"format": "mvit_video"} | describe(model).to_metadata()
    if class_names is not None:
        metadata[CLASS_NAMES_KEY] = json.dumps(list(class_names))
    if facts is not None:
        metadata[FACTS_KEY] = facts.to_json()
    if assumed:
        metadata[ASSUMED_KEY] = json.dumps(dict(assumed))
    tensors = _state(model)
    write_checkpoint(path, lambda place: save_file(tensors, place, metadata))


def export_checkpoint(model: VideoNet, path: str | PathLike[str], format: str) -> None:
    """Write weights to a file that another code base loads strictly into its net of the same numbers.

    A file for SlowFast and pytorchvideo holds the state dict as `model_state`, as those they publish; one for
    torchvision is the state dict. What the other code base does not have is refused: PVT, AlterNet, PEGs, and spatial
    reduction of keys and values in all; MViTv2 in pytorchvideo; in torchvision joint positions, nets without class
    token or head, and pooling by maximum or average; a mean of patches, which SlowFast alone has. The log warns of what
    no tensor shows and the other code base has otherwise.

    Raises:
        ConfigError: there is no such format.
        CheckpointError: the other code base has no such model, or the file cannot be written.

    Source: exported, loaded and run in torchvision and pytorchvideo (tests/models/checkpoints/test_exchange.py).
    """
    state = export_state(model, format)
    for line in _untold(describe(model).arguments, format):
        _log.warning("%s: %s", path, line)
    content = state if format == "torchvision" else {"model_state": state}

    def write(place: Path) -> None:
        with place.open("wb") as file:  # torch writes the name of a path into the file
            torch.save(content, file)

    write_checkpoint(path, write)


def export_state(model: VideoNet, format: str) -> dict[str, Tensor]:
    """The state dict that `export_checkpoint` writes."""
    if format not in FOREIGN_FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FOREIGN_FORMATS)}, got {format!r}")
    state = _state(model)
    architecture = describe(model)
    if lack := _lack(architecture, format):
        raise CheckpointError(f"cannot export to {format}, which has {lack}")
    arguments = architecture.arguments
    if architecture.builder == "mvit" and arguments["position"] == "none" and format != "slowfast":
        state |= _zero_positions(model)
    if architecture.builder == "mvitv2" and format == "torchvision":
        state |= _zero_times(state)
    return to_layout(state, format, is_image=arguments["num_frames"] == 1)


def _state(model: VideoNet) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}


def _lack(architecture: Architecture, format: str) -> str | None:
    """What the other code base does not have of an architecture."""
    arguments = architecture.arguments
    for family, name in (("pvt", "PVT"), ("alternet", "AlterNet")):
        if architecture.builder.startswith(family):
            return f"no {name}"
    is_v2, pooling = architecture.builder == "mvitv2", arguments["pooling"]
    kinds = kinds_of(arguments.get("position", "relative"))
    usual = "cls" if arguments["class_token"] else "gap"
    head_pool = arguments["head_pool"]
    if head_pool != usual and (format != "slowfast" or head_pool != "mean_of_patches"):
        return f"no head_pool {head_pool} in nets {'with' if arguments['class_token'] else 'without'} a class token"
    if pooling.reduction != pooling.mode:
        return f"no reduction of keys and values by {pooling.reduction} beside pooling of queries by {pooling.mode}"
    if any(kind.startswith("peg") for kind in kinds):
        return "no PEG"
    if format == "slowfast":
        return "no nets without a head" if arguments["num_classes"] == 0 else None
    if not arguments.get("class_token", True) and not is_v2:
        return "no nets without a class token"
    if format == "pytorchvideo":
        return "no MViTv2" if is_v2 else None
    if arguments["num_classes"] == 0:
        return "no nets without a head"
    if is_v2 and kinds != ("relative",):
        return "no MViTv2 with other positions than relative ones"
    if "joint" in kinds:
        return "no joint positions"
    if not arguments.get("class_token", True):
        return "no nets without a class token"
    if pooling.mode != "conv":
        return f"no {pooling.mode} pooling"
    return None


def _untold(arguments: Mapping[str, Any], format: str) -> list[str]:
    """What the other code base has to be told, because its own value is another and no tensor shows it."""
    lines, pooling = [], arguments["pooling"]
    if arguments["head_pool"] == "mean_of_patches":
        lines.append("the head takes the mean of patches: set MVIT.USE_MEAN_POOLING in SlowFast")
    theirs = PYTORCHVIDEO_EPS if format == "pytorchvideo" else Pooling.norm_eps
    if pooling.mode == "conv" and pooling.norm_eps != theirs:
        lines.append(
            f"the norms after pools have eps {pooling.norm_eps:g} here and {theirs:g} in {format}, whose logits differ "
            "by up to 1e-3"
        )
    return lines


def _zero_positions(model: VideoNet) -> dict[str, Tensor]:
    """Tables that change nothing, for code bases whose MViT always has some."""
    thw = model.patch_embed.thw(THW(model.num_frames, model.crop_size, model.crop_size))
    like = model.patch_embed.proj.bias
    assert like is not None
    rows = {"spatial": thw.h * thw.w, "temporal": thw.t, "class_token": 1}
    return {f"position.{key}": torch.zeros(1, num, len(like), dtype=like.dtype) for key, num in rows.items()}


def _zero_times(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Relative positions in the time of a single frame, which torchvision always has."""
    tables = {key.removesuffix("h") + "t": table for key, table in state.items() if key.endswith(".rel_pos.h")}
    return {key: torch.zeros_like(table[:1]) for key, table in tables.items() if key not in state}
