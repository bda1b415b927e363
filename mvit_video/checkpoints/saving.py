"""Save a model for this project, or export it in the layout of another."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mvit_video.checkpoints.contents import CLASS_NAMES_KEY
from mvit_video.checkpoints.files import write_checkpoint
from mvit_video.checkpoints.untraced import ASSUMED_KEY, FACTS_KEY
from mvit_video.models.family import OWN_FORMAT, Family, all_families, family_of
from mvit_video.models.net import VideoNet
from mvit_video.models.published import TrainingFacts
from mvit_video.types import CheckpointError, ConfigError

_log = logging.getLogger(__name__)


def foreign_formats() -> list[str]:
    """Return the layouts of other code bases that some family can be exported to."""
    return list(dict.fromkeys(format for family in all_families() for format in family.weights.export_formats))


def metadata_of(
    model: VideoNet,
    *,
    class_names: Sequence[str] | None = None,
    facts: TrainingFacts | None = None,
    assumed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the recipe of a model, and what else no tensor shows, as texts for a file.

    Args:
        class_names: name of each class.
        facts: what the weights are trained with.
        assumed: lines of `LoadReport.assumed`.

    Raises:
        CheckpointError: no builder makes such a model.
    """
    _check_recipe(model)
    assert model.recipe is not None
    metadata = model.recipe.to_metadata()
    if class_names is not None:
        metadata[CLASS_NAMES_KEY] = json.dumps(list(class_names))
    if facts is not None:
        metadata[FACTS_KEY] = facts.to_json()
    if assumed:
        metadata[ASSUMED_KEY] = json.dumps(dict(assumed))
    return metadata


def _check_recipe(model: VideoNet) -> None:
    if model.recipe is None:
        raise CheckpointError("the model is none that a builder makes; save model.state_dict() instead")
    difference = model.recipe.first_difference({key: value.shape for key, value in model.state_dict().items()})
    if difference:
        raise CheckpointError(f"the model is none that a builder makes: {difference}; save model.state_dict() instead")


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

    Example:
        >>> model = mv.load_model("runs/demo/version_0")
        >>> mv.save_checkpoint(model.net, "net.safetensors", class_names=model.class_names)
        >>> mv.load_model("net.safetensors").class_names
        ('jump', 'run', 'sit')
    """
    metadata = metadata_of(model, class_names=class_names, facts=facts, assumed=assumed) | {"format": OWN_FORMAT}
    tensors = _state(model)
    write_checkpoint(path, lambda place: save_file(tensors, place, metadata))


def export_checkpoint(model: VideoNet, path: str | PathLike[str], format: str) -> None:
    """Write weights to a file that another code base loads strictly into its net of the same numbers.

    A file for SlowFast and pytorchvideo holds the state dict as `model_state`, as those they publish; one for
    torchvision is the state dict. What the other code base does not have is refused, see
    docs/reference/checkpoints.md. The log warns of what no tensor shows and the other code base has otherwise.

    Raises:
        ConfigError: there is no such format.
        CheckpointError: the other code base has no such model, or the file cannot be written.

    Example:
        >>> net = mv.load_model("runs/demo/version_0").net
        >>> mv.export_checkpoint(net, "net.pyth", format="slowfast")

    Source: exported, loaded and run in torchvision and pytorchvideo (tests/checkpoints/test_exchange.py).
    """
    state = export_state(model, format)
    for line in _exporting_family(model, format).weights.export_notes(model, format):
        _log.warning("%s: %s", path, line)
    content = state if format == "torchvision" else {"model_state": state}

    def write(place: Path) -> None:
        with place.open("wb") as file:  # torch writes the name of a path into the file
            torch.save(content, file)

    write_checkpoint(path, write)


def export_state(model: VideoNet, format: str) -> dict[str, Tensor]:
    """Return the state dict that `export_checkpoint` writes."""
    if format not in foreign_formats():
        raise ConfigError(f"format must be one of {', '.join(foreign_formats())}, got {format!r}")
    _check_recipe(model)
    return _exporting_family(model, format).weights.export(model, _state(model), format)


def _exporting_family(model: VideoNet, format: str) -> Family:
    family = family_of(model)
    if family is None or format not in family.weights.export_formats:
        raise CheckpointError(f"cannot export to {format}, which has no {type(model).__name__}")
    return family


def _state(model: VideoNet) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
