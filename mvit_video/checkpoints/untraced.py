"""What leaves no trace in tensors: taken from what a file states, else assumed, and then reported."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import nn

from mvit_video.checkpoints.recipes import stated_recipe
from mvit_video.checkpoints.translation import Translation
from mvit_video.models.families import variants
from mvit_video.models.family import builders, family_of
from mvit_video.models.net import VideoNet
from mvit_video.models.published import IMAGE_FACTS, TrainingFacts
from mvit_video.models.recipes import Recipe
from mvit_video.types import CheckpointError, printable

FACTS_KEY, ASSUMED_KEY = "training", "assumed"  # of JSON among the metadata of a file
FACTS_ASSUMED = "training"  # of the line on them in `LoadReport.assumed`
_OF_SIZES = re.compile(r"head\.|position\.|.*\.rel_pos\.")  # tensors that change with classes, frames or crop


@dataclass
class Untraced:
    """Statements of a checkpoint and a net about what no tensor shows.

    Attributes:
        facts: what the weights were trained with; None for a net of another kind.
        assumed: what the file does not state, one line for each argument.
        conflicts: what the file states and the net has otherwise, one line for each.
        notes: what else there is to say.
    """

    facts: TrainingFacts | None = None
    assumed: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def arguments_from(checkpoint: Translation, net: VideoNet, chosen: Collection[str]) -> dict[str, Any]:
    """Return arguments that leave no trace in tensors, as a file states them, to build a named net with.

    Args:
        net: the named net, on any device.
        chosen: arguments that the caller gives.
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
    """Return what a file states of a net beside its tensors, and what has to be assumed.

    Args:
        origin: where the net's own arguments are from, to end "... leaves no trace; taken".
        chosen: arguments that the caller gave and knows of.
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
    """Return the recipe that a file states, or why what it states is of no use."""
    try:
        return stated_recipe(checkpoint), ""
    except CheckpointError as error:
        return None, error.reason.removeprefix(f"{printable(checkpoint.name)}: ")


def _facts(net: VideoNet, checkpoint: Translation, notes: list[str]) -> tuple[TrainingFacts, str | None]:
    """Return what the weights were trained with, and the line that says so where it is assumed.

    Args:
        notes: gets why what the file states is of no use.
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
            if not notes:  # else the text as a whole is of no use
                notes.append(f"{error.reason}: not used")
    facts, like = published_facts(net)
    return facts, (
        f"mean, std, sampling rate and activation leave no trace; taken as published for {like}: mean={facts.mean}, "
        f"std={facts.std}, {net.num_frames}x{facts.sampling_rate}, {facts.activation}"
    )


def published_facts(net: VideoNet) -> tuple[TrainingFacts, str]:
    """Return what the published weights of such a net were trained with, and the name or kind of the net."""
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


def _shapes(state: Iterable[tuple[str, torch.Tensor]]) -> frozenset[tuple[str, tuple[int, ...]]]:
    return frozenset((key, tuple(tensor.shape)) for key, tensor in state if not _OF_SIZES.match(key))


def _assumed_before(checkpoint: Translation) -> dict[str, str]:
    """Return what was assumed when the file was converted from another."""
    text = checkpoint.metadata.get(ASSUMED_KEY, "{}")
    try:
        lines = json.loads(text)
        if not isinstance(lines, dict) or not all(isinstance(line, str) for line in lines.values()):
            raise ValueError("not a mapping of texts")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{checkpoint.name}: its metadata have no lines under {ASSUMED_KEY} ({error})") from error
    prefix = "assumed when converted: "
    return {printable(key, 80): prefix + printable(line.removeprefix(prefix)) for key, line in lines.items()}
