"""Architecture and training facts of a checkpoint: stated in the file, inferred from its tensors, or assumed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from mvit_video.checkpoints.pickles import one_line, parsing
from mvit_video.checkpoints.translation import Translation
from mvit_video.models.families import variants
from mvit_video.models.family import UntracedError, builders, family_of
from mvit_video.models.net import VideoNet
from mvit_video.models.published import IMAGE_FACTS, TrainingFacts
from mvit_video.models.recipes import Recipe
from mvit_video.types import CheckpointError, printable

FACTS_KEY, ASSUMED_KEY = "training", "assumed"  # keys of JSON in the metadata of a file
FACTS_ASSUMED = "training"  # key of their line in `LoadReport.assumed`
_OF_SIZES = re.compile(r"head\.|position\.|.*\.rel_pos\.")  # tensors whose shape depends on classes, frames or crop
_HINT = "name the model: create_model(name, checkpoint=...)"


class UnknownArchitectureError(CheckpointError):
    """Neither the file nor its tensors show the architecture: the user has to name the model."""


def infer_architecture(
    checkpoint: Translation, *, num_frames: int | None = None, crop_size: int | None = None
) -> tuple[Recipe, list[str]]:
    """Return the recipe that a checkpoint states or its tensors show, and lines on what was assumed.

    Args:
        num_frames: frames of a clip, if the positions do not show it.
        crop_size: height and width in pixels, if the positions do not show it.

    Raises:
        CheckpointError: the recipe and the tensors disagree.
        UnknownArchitectureError: the tensors do not show it, or no net with published strides has these shapes.
    """
    with parsing(checkpoint.name):
        stated = stated_recipe(checkpoint)
        if stated is not None:
            return stated, []
        weights, tensors = checkpoint.family.weights, checkpoint.tensors
        try:
            recipe, notes = weights.infer(tensors, checkpoint.format, num_frames=num_frames, crop_size=crop_size)
            if difference := recipe.first_difference({key: tensor.shape for key, tensor in tensors.items()}):
                depths = recipe.arguments.get("depths")
                raise UntracedError(f"as {recipe.name} of depths {depths}, {difference}")
        except UntracedError as error:
            reason = f"{checkpoint.name}: the architecture cannot be inferred: {error}"
            raise UnknownArchitectureError(reason, _HINT) from error
    return recipe, notes


def stated_recipe(checkpoint: Translation) -> Recipe | None:
    """Return the recipe in the metadata of a file of this project, or in the settings of another project.

    Raises:
        CheckpointError: it disagrees with the tensors, or this project has no such net.
    """
    tensors, is_ours = checkpoint.tensors, "builder" in checkpoint.metadata
    what = "metadata" if is_ours else "cfg"
    try:
        if is_ours:
            recipe = Recipe.from_metadata(checkpoint.metadata, builders())
        elif checkpoint.settings is not None and checkpoint.config is not None:
            recipe = checkpoint.settings.recipe(checkpoint.config, tensors)
        else:
            return None
        _check_depths(recipe, tensors, what)
        if difference := _difference(recipe, tensors, what):
            raise CheckpointError(f"its {what} and its tensors disagree: {difference}")
    except CheckpointError as error:
        if is_ours:
            raise CheckpointError(f"{checkpoint.name}: {error}") from error
        raise UnknownArchitectureError(f"{checkpoint.name}: {error}", _HINT) from error
    return recipe


def _check_depths(recipe: Recipe, tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse to build more blocks than a file holds, for builders with an argument `depths`."""
    depths = recipe.arguments.get("depths", ())
    if not isinstance(depths, tuple) or not all(type(depth) is int and depth > 0 for depth in depths):
        raise CheckpointError(
            "its metadata describe no model that can be built "
            f"(depths {str(depths)[:80]}, expected numbers of blocks)"
        )  # fmt: skip
    num_blocks = len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})
    if depths and sum(depths) != num_blocks:
        raise CheckpointError(f"its {what} have depths {depths}, it has {num_blocks}")


def _difference(recipe: Recipe, tensors: Mapping[str, Tensor], what: str) -> str | None:
    try:
        return recipe.first_difference({key: tensor.shape for key, tensor in tensors.items()})
    except Exception as error:  # arguments of a file can be anything
        raise CheckpointError(f"its {what} describe no model that can be built ({one_line(error)})") from error


@dataclass
class Untraced:
    """Comparison of a checkpoint and a net in what tensors do not show.

    Attributes:
        facts: facts of the training; None for a net of no family.
        assumed: by argument, a line for what the file does not state.
        conflicts: by argument, a line for what differs in file and net.
        notes: other lines.
    """

    facts: TrainingFacts | None = None
    assumed: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def arguments_from(checkpoint: Translation, net: VideoNet, chosen: Collection[str]) -> dict[str, Any]:
    """Return the arguments that a file states and tensors do not show, for building a named net.

    Args:
        net: the named net, on any device.
        chosen: arguments of the caller, which are left out.
    """
    family = family_of(net)
    if family is None:
        return {}
    stated, _ = _stated(checkpoint)
    found = family.weights.untraced_arguments(net, stated, checkpoint.format)
    if "kv_reduction" in chosen:
        found.pop("pooling", None)
    return {key: value for key, value in found.items() if key not in chosen}


def compare_untraced(net: nn.Module, checkpoint: Translation, origin: str, chosen: Collection[str] = ()) -> Untraced:
    """Compare a file with a net in what tensors do not show.

    Args:
        origin: source of the net's arguments, as the end of "... is not in the file; assumed".
        chosen: arguments of the caller, which are not reported.
    """
    family = family_of(net)
    if family is None or not isinstance(net, VideoNet):
        return Untraced()
    found = Untraced()
    stated, reason = _stated(checkpoint)
    if stated is None:
        found.assumed = family.weights.assumed(net, checkpoint.format, origin)
    elif stated.name in family.builders:
        found.conflicts = family.weights.conflicts(net, stated)
        if checkpoint.settings is not None and checkpoint.config is not None:
            found.assumed = checkpoint.settings.unstated(checkpoint.config)
    if reason and (found.assumed or found.conflicts):
        found.notes.append(f"{reason}: not used")
    found.facts, assumed = _facts(net, checkpoint, found.notes)
    if assumed:
        found.assumed[FACTS_ASSUMED] = assumed
    found.assumed |= _assumed_before(checkpoint)
    for lines in (found.assumed, found.conflicts):
        for key in [key for key in lines if key in chosen or (key in ("stride", "norm_eps") and "pooling" in chosen)]:
            if lines is found.conflicts:
                found.notes.append(lines[key])
            del lines[key]
    return found


def _stated(checkpoint: Translation) -> tuple[Recipe | None, str]:
    """Return the recipe in a file, and why it cannot be used."""
    try:
        return stated_recipe(checkpoint), ""
    except CheckpointError as error:
        return None, error.reason.removeprefix(f"{printable(checkpoint.name)}: ")


def _facts(net: VideoNet, checkpoint: Translation, notes: list[str]) -> tuple[TrainingFacts, str | None]:
    """Return the facts of the training, and a line if they are assumed.

    Args:
        notes: gets the reason why settings in the file cannot be used.
    """
    if FACTS_KEY in checkpoint.metadata:
        try:
            return TrainingFacts.from_json(checkpoint.metadata[FACTS_KEY]), None
        except ValueError as error:
            raise CheckpointError(f"{checkpoint.name}: its metadata: {printable(str(error), 200)}") from error
    if checkpoint.settings is not None and checkpoint.config is not None:
        try:
            return checkpoint.settings.facts(checkpoint.config), None
        except CheckpointError as error:
            if not notes:  # else the complete text cannot be used
                notes.append(f"{error.reason}: not used")
    facts, like = published_facts(net)
    return facts, (
        f"mean, std, sampling rate and activation are not in the file; assumed as published for {like}: "
        f"mean={facts.mean}, std={facts.std}, {net.num_frames}x{facts.sampling_rate}, {facts.activation}"
    )


def published_facts(net: VideoNet) -> tuple[TrainingFacts, str]:
    """Return the training facts of the published weights of such a net, and the name or kind of the net."""
    if net.num_frames == 1:
        return IMAGE_FACTS, "images"
    of_clips = {name: one for name, one in variants().items() if one.size.num_frames > 1}
    rates = {one.size.num_frames: one.facts.sampling_rate for one in reversed(of_clips.values())}
    usual = TrainingFacts(sampling_rate=rates.get(net.num_frames, TrainingFacts.sampling_rate))
    for name, one in of_clips.items():
        if one.facts.mean != usual.mean and _signature(builders()[name]) == _shapes(net.state_dict().items()):
            return one.facts, name
    return usual, "clips"


@cache
def _signature(build: Callable[..., VideoNet]) -> frozenset[tuple[str, tuple[int, ...]]]:
    with torch.device("meta"):
        return _shapes(build().state_dict().items())


def _shapes(state: Iterable[tuple[str, Tensor]]) -> frozenset[tuple[str, tuple[int, ...]]]:
    return frozenset((key, tuple(tensor.shape)) for key, tensor in state if not _OF_SIZES.match(key))


def _assumed_before(checkpoint: Translation) -> dict[str, str]:
    """Return the lines on what was assumed when the file was converted."""
    text = checkpoint.metadata.get(ASSUMED_KEY, "{}")
    try:
        lines = json.loads(text)
        if not isinstance(lines, dict) or not all(isinstance(line, str) for line in lines.values()):
            raise ValueError("not a mapping of texts")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{checkpoint.name}: its metadata have no lines under {ASSUMED_KEY} ({error})") from error
    prefix = "assumed when converted: "
    return {printable(key, 80): prefix + printable(line.removeprefix(prefix)) for key, line in lines.items()}
