"""What leaves no trace in tensors: taken from what a file states, else assumed, and then said."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import nn

from mvit_video.checkpoints.architecture import Architecture
from mvit_video.checkpoints.inference import PYTORCHVIDEO_EPS, stated_architecture
from mvit_video.checkpoints.layouts import Translation
from mvit_video.checkpoints.slowfast_config import facts_in_config, unstated_in_config
from mvit_video.models import BUILDERS
from mvit_video.models.mvit import MViT
from mvit_video.models.net import VideoNet
from mvit_video.models.published import IMAGE_FACTS, PUBLISHED, TrainingFacts
from mvit_video.types import CheckpointError, printable

FACTS_KEY, ASSUMED_KEY = "training", "assumed"  # of JSON among the metadata of a file
FACTS_ASSUMED = "training"  # of the line on them in `LoadReport.assumed`
_CLIP_NETS = {name: BUILDERS[name] for name in PUBLISHED if re.search(r"_\d+x\d+$", name)}
_RATES = {int(frames): int(rate) for name in _CLIP_NETS for frames, rate in [name.rsplit("_", 1)[1].split("x")]}
_OF_SIZES = re.compile(r"head\.|position\.|.*\.rel_pos\.")  # tensors that change with classes, frames or crop


@dataclass
class Untraced:
    """What a checkpoint and a net say of what no tensor shows.

    Attributes:
        facts: what the weights were trained with; None for a net of another kind.
        assumed: what the file does not state, one line for each argument.
        conflicts: what the file states and the net has otherwise, likewise.
        notes: what else there is to say.
    """

    facts: TrainingFacts | None = None
    assumed: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def arguments_from(checkpoint: Translation, net: VideoNet, chosen: Collection[str]) -> dict[str, Any]:
    """Arguments of an MViT that leave no trace in tensors, as a file states them, to build a named net with.

    Args:
        net: the named net, on any device.
        chosen: arguments that the caller gives.
    """
    if not isinstance(net, MViT):
        return {}
    stated, _ = _stated(checkpoint)
    found: dict[str, Any] = {}
    if stated is None:
        if checkpoint.format == "pytorchvideo":
            found["pooling"] = replace(net.pooling, norm_eps=PYTORCHVIDEO_EPS)
    else:
        head_pool, pooling = stated.arguments.get("head_pool"), stated.arguments["pooling"]
        if head_pool and (head_pool != "cls" or net.class_token is not None):
            found["head_pool"] = head_pool
        if (pooling.kernel, pooling.mode) == (net.pooling.kernel, net.pooling.mode):
            found["pooling"] = pooling
    if "kv_reduction" in chosen:
        found.pop("pooling", None)
    return {key: value for key, value in found.items() if key not in chosen}


def compare_untraced(net: nn.Module, checkpoint: Translation, origin: str, chosen: Collection[str] = ()) -> Untraced:
    """What a file states of a net beside its tensors, and what has to be assumed.

    Args:
        origin: where the net's own arguments are from, to end "... leaves no trace; taken".
        chosen: arguments that the caller gave and knows of.
    """
    if not isinstance(net, VideoNet):
        return Untraced()
    found = Untraced()
    if isinstance(net, MViT):
        stated, reason = _stated(checkpoint)
        if reason:
            found.notes.append(f"{reason}: not used")
        if stated is None:
            found.assumed = _assumed(net, checkpoint, origin)
        elif stated.builder in ("mvit", "mvitv2"):
            found.conflicts = _conflicts(net, stated)
            if checkpoint.config is not None:
                found.assumed = unstated_in_config(checkpoint.config)
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


def _stated(checkpoint: Translation) -> tuple[Architecture | None, str]:
    """The architecture that a file states, or why what it states is of no use."""
    try:
        return stated_architecture(checkpoint), ""
    except CheckpointError as error:
        return None, error.reason.removeprefix(f"{printable(checkpoint.name)}: ")


def _assumed(net: MViT, checkpoint: Translation, origin: str) -> dict[str, str]:
    lines = {}
    pooling = net.pooling
    if pooling.kernel and (net.pooling.stride_kv or len(net.blocks) > 1):
        strides = f"stride_q={tuple(pooling.stride_q)}, stride_kv={pooling.stride_kv and tuple(pooling.stride_kv)}"
        lines["stride"] = f"strides leave no trace; taken {origin}: {strides}"
    if checkpoint.format != "torchvision":
        hint = "" if net.head_pool == "mean_of_patches" else "; SlowFast with USE_MEAN_POOLING is mean_of_patches"
        hint = hint if checkpoint.format == "slowfast" else ""
        lines["head_pool"] = f"head_pool leaves no trace; taken {origin}: {net.head_pool}{hint}"
    if checkpoint.format == "pytorchvideo" and pooling.mode == "conv":
        usual = " (pytorchvideo 0.1.5 has 1e-05)" if pooling.norm_eps != PYTORCHVIDEO_EPS else ", as in 0.1.5"
        lines["norm_eps"] = f"pooling.norm_eps leaves no trace; the net has {pooling.norm_eps:g}{usual}"
    if checkpoint.format == "slowfast" and pooling.mode == "conv":
        lines["norm_eps"] = (
            f"pooling.norm_eps leaves no trace; the net has {pooling.norm_eps:g} (SlowFast had 1e-05 before June 2022)"
        )
    if checkpoint.format == "timm" and net.class_token is not None:
        lines["residual"] = (
            "timm adds pooled queries to the class token too; nets here do not, as the code that trained the published "
            "weights"
        )
    return lines


def _conflicts(net: MViT, stated: Architecture) -> dict[str, str]:
    """Arguments that leave no trace and are not the same; pools of other kernels are of another net."""
    conflicts = {}
    head_pool, theirs, ours = stated.arguments.get("head_pool"), stated.arguments["pooling"], net.pooling
    if head_pool and head_pool != net.head_pool:
        conflicts["head_pool"] = f"head_pool is {head_pool} in the file, {net.head_pool} in the model"
    if (theirs.kernel, theirs.mode) == (ours.kernel, ours.mode):
        for key in ("stride_q", "stride_kv"):
            found, own = (one and tuple(one) for one in (getattr(theirs, key), getattr(ours, key)))
            if found != own:
                conflicts["stride"] = f"pooling.{key} is {found} in the file, {own} in the model"
        if theirs.norm_eps != ours.norm_eps:
            conflicts["norm_eps"] = (
                f"pooling.norm_eps is {theirs.norm_eps:g} in the file, {ours.norm_eps:g} in the model"
            )
    return conflicts


def _facts(net: VideoNet, checkpoint: Translation, notes: list[str]) -> tuple[TrainingFacts, str | None]:
    """What the weights were trained with, and the line that says so where it is assumed.

    Args:
        notes: gets why what the file states is of no use.
    """
    if FACTS_KEY in checkpoint.metadata:
        try:
            return TrainingFacts.from_json(checkpoint.metadata[FACTS_KEY]), None
        except ValueError as error:
            raise CheckpointError(f"{checkpoint.name}: its metadata: {printable(str(error), 200)}") from error
    if checkpoint.config is not None:
        try:
            return facts_in_config(checkpoint.config), None
        except CheckpointError as error:
            if not notes:  # else the text as a whole is of no use
                notes.append(f"{error.reason}: not used")
    facts, like = published_facts(net)
    return facts, (
        f"mean, std, sampling rate and activation leave no trace; taken as published for {like}: mean={facts.mean}, "
        f"std={facts.std}, {net.num_frames}x{facts.sampling_rate}, {facts.activation}"
    )


def published_facts(net: VideoNet) -> tuple[TrainingFacts, str]:
    """What the published weights of such a net were trained with, and the name or kind of the net."""
    if net.num_frames == 1:
        return IMAGE_FACTS, "images"
    usual = TrainingFacts(sampling_rate=_RATES.get(net.num_frames, TrainingFacts.sampling_rate))
    for name in _CLIP_NETS:
        facts = PUBLISHED[name].facts
        if facts.mean != usual.mean and _signature(name) == _shapes(net.state_dict().items()):
            return facts, name
    return usual, "clips"


@cache
def _signature(name: str) -> frozenset[tuple[str, tuple[int, ...]]]:
    with torch.device("meta"):
        return _shapes(_CLIP_NETS[name]().state_dict().items())


def _shapes(state: Iterable[tuple[str, torch.Tensor]]) -> frozenset[tuple[str, tuple[int, ...]]]:
    return frozenset((key, tuple(tensor.shape)) for key, tensor in state if not _OF_SIZES.match(key))


def _assumed_before(checkpoint: Translation) -> dict[str, str]:
    """What was assumed when the file was converted from another."""
    text = checkpoint.metadata.get(ASSUMED_KEY, "{}")
    try:
        lines = json.loads(text)
        if not isinstance(lines, dict) or not all(isinstance(line, str) for line in lines.values()):
            raise ValueError("not a mapping of texts")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{checkpoint.name}: its metadata have no lines under {ASSUMED_KEY} ({error})") from error
    prefix = "assumed when converted: "
    return {printable(key, 80): prefix + printable(line.removeprefix(prefix)) for key, line in lines.items()}
