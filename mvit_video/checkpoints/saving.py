"""Save a model for this project, or export it for another."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mvit_video.checkpoints.architecture import ASSUMED_KEY, FACTS_KEY
from mvit_video.checkpoints.files import CLASS_NAMES_KEY, write_checkpoint
from mvit_video.models.family import OWN_FORMAT, Family, all_families, family_of
from mvit_video.models.net import VideoNet
from mvit_video.models.published import TrainingFacts
from mvit_video.types import CheckpointError, ConfigError

_log = logging.getLogger(__name__)


def foreign_formats() -> list[str]:
    """Return the layouts of other projects to which a family can be exported."""
    return list(dict.fromkeys(format for family in all_families() for format in family.weights.export_formats))


def metadata_of(
    model: VideoNet,
    *,
    class_names: Sequence[str] | None = None,
    facts: TrainingFacts | None = None,
    assumed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the recipe of a model, and other facts that tensors do not show, as texts for a file.

    Args:
        class_names: name of each class.
        facts: facts of the training.
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
        raise CheckpointError("no builder makes this model; save model.state_dict() instead")
    difference = model.recipe.first_difference({key: value.shape for key, value in model.state_dict().items()})
    if difference:
        raise CheckpointError(f"no builder makes this model: {difference}; save model.state_dict() instead")


def save_checkpoint(
    model: VideoNet,
    path: str | PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    facts: TrainingFacts | None = None,
    assumed: Mapping[str, str] | None = None,
) -> None:
    """Write weights and recipe to a safetensors file, from which `create_model(checkpoint=path)` builds the model.

    Args:
        class_names: name of each class, for `classify` and other verbs.
        facts: facts of the training, for `extract` and `classify`.
        assumed: lines of `LoadReport.assumed`, to be reported again when the file is loaded.

    Raises:
        CheckpointError: no builder makes this model, or the file cannot be written.

    Examples:
        >>> model = mv.load_model("runs/demo/version_0")
        >>> mv.save_checkpoint(model.net, "net.safetensors", class_names=model.class_names)
        >>> mv.load_model("net.safetensors").class_names
        ('jump', 'run', 'sit')
    """
    metadata = metadata_of(model, class_names=class_names, facts=facts, assumed=assumed) | {"format": OWN_FORMAT}
    tensors = _state(model)
    write_checkpoint(path, lambda place: save_file(tensors, place, metadata))


def export_checkpoint(model: VideoNet, path: str | PathLike[str], format: str) -> None:
    """Write weights to a file that another project loads strictly into the same net.

    A file for SlowFast or pytorchvideo holds the state dict as `model_state`; a file for torchvision is the state dict.
    The log warns of arguments that tensors do not show and that differ there, see docs/reference/checkpoints.md.

    Raises:
        ConfigError: there is no such format.
        CheckpointError: the other project has no such model, or the file cannot be written.

    Examples:
        >>> net = mv.load_model("runs/demo/version_0").net
        >>> mv.export_checkpoint(net, "net.pyth", format="slowfast")

    Source: exported, loaded and run in torchvision and pytorchvideo (tests/checkpoints/test_exchange.py).
    """
    state = export_state(model, format)
    for line in _exporting_family(model, format).weights.export_notes(model, format):
        _log.warning("%s: %s", path, line)
    content = state if format == "torchvision" else {"model_state": state}

    def write(place: Path) -> None:
        with place.open("wb") as file:  # torch would write the path into the file
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
