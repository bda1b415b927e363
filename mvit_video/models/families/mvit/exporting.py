"""State dicts of MViT in the layouts of SlowFast, pytorchvideo and torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mvit_video.models.architecture import Pooling
from mvit_video.models.families.mvit.inferring import PYTORCHVIDEO_EPS
from mvit_video.models.families.mvit.layouts import PYTORCHVIDEO, SLOWFAST, TORCHVISION
from mvit_video.models.families.mvit.net import MViT
from mvit_video.types import THW, CheckpointError

_LAYOUTS = {layout.format: layout for layout in (SLOWFAST, PYTORCHVIDEO, TORCHVISION)}


def export(net: MViT, state: dict[str, Tensor], format: str) -> dict[str, Tensor]:
    """Return a state dict that another project loads strictly into the same net.

    Raises:
        CheckpointError: the other project has no such net.
    """
    if missing := _missing(net, format):
        raise CheckpointError(f"cannot export to {format}, which has {missing}")
    if not _is_v2(net) and not net.position_kinds and format != "slowfast":
        state |= _zero_positions(net)
    if _is_v2(net) and format == "torchvision":
        state |= _zero_times(state)
    return to_layout(state, format, is_image=net.num_frames == 1)


def to_layout(state: Mapping[str, Tensor], format: str, *, is_image: bool = False) -> dict[str, Tensor]:
    """Return a state dict of this project in another layout.

    Args:
        format: `slowfast`, `pytorchvideo` (q, k and v are three layers) or `torchvision` (tables have no batch axis).
        is_image: the net takes images: SlowFast and pytorchvideo then have no time axis in the patch embedding.

    Raises:
        CheckpointError: the layout has no name for a tensor.
    """
    renamed = {}
    for key, tensor in state.items():
        if key == "patch_embed.proj.weight" and is_image and format != "torchvision":
            tensor = tensor.squeeze(2)
        if format == "torchvision" and (key == "class_token" or key.startswith("position.")):
            tensor = tensor.flatten() if "class_token" in key else tensor.squeeze(0)
        pieces = {key: tensor}
        if format == "pytorchvideo" and ".attn.qkv." in key:
            pieces = {key.replace("qkv", x): part for x, part in zip("qkv", tensor.chunk(3), strict=True)}
        for name, piece in pieces.items():
            theirs = _LAYOUTS[format].theirs(name)
            if theirs is None:
                raise CheckpointError(f"{format} has no place for {name}")
            renamed[theirs] = piece
    return renamed


def export_notes(net: MViT, format: str) -> list[str]:
    """Return what the user has to set in the other project, whose default differs."""
    lines, pooling = [], net.pooling
    if net.head_pool == "mean_of_patches":
        lines.append("the head takes the mean of patches: set MVIT.USE_MEAN_POOLING in SlowFast")
    theirs = PYTORCHVIDEO_EPS if format == "pytorchvideo" else Pooling.norm_eps
    if pooling.mode == "conv" and pooling.norm_eps != theirs:
        lines.append(
            f"the norms after pools have eps {pooling.norm_eps:g} here and {theirs:g} in {format}, whose logits differ "
            "by up to 1e-3"
        )
    return lines


def _is_v2(net: MViT) -> bool:
    blocks: list[Any] = list(net.blocks)
    return "relative" in net.position_kinds or any(block.widens_in_attention for block in blocks)


def _missing(net: MViT, format: str) -> str | None:
    """Name the part of a net that the other project does not have; None if it has all parts."""
    is_v2, pooling, kinds, has_token = _is_v2(net), net.pooling, net.position_kinds, net.class_token is not None
    usual = "cls" if has_token else "gap"
    if net.head_pool != usual and (format != "slowfast" or net.head_pool != "mean_of_patches"):
        return f"no head_pool {net.head_pool} in nets {'with' if has_token else 'without'} a class token"
    if pooling.reduction != pooling.mode:
        return f"no reduction of keys and values by {pooling.reduction} beside pooling of queries by {pooling.mode}"
    if any(kind.startswith("peg") for kind in kinds):
        return "no PEG"
    if format == "slowfast":
        return "no nets without a head" if net.num_classes == 0 else None
    if not has_token and not is_v2:
        return "no nets without a class token"
    if format == "pytorchvideo":
        return "no MViTv2" if is_v2 else None
    if net.num_classes == 0:
        return "no nets without a head"
    if is_v2 and kinds != ("relative",):
        return "no MViTv2 with other positions than relative ones"
    if "joint" in kinds:
        return "no joint positions"
    if not has_token:
        return "no nets without a class token"
    if pooling.mode != "conv":
        return f"no {pooling.mode} pooling"
    return None


def _zero_positions(model: MViT) -> dict[str, Tensor]:
    """Return tables of zeros, for projects whose MViT always has tables."""
    thw = model.patch_embed.thw(THW(model.num_frames, model.crop_size, model.crop_size))
    like = model.patch_embed.proj.bias
    assert like is not None
    rows = {"spatial": thw.h * thw.w, "temporal": thw.t, "class_token": 1}
    return {f"position.{key}": torch.zeros(1, num, len(like), dtype=like.dtype) for key, num in rows.items()}


def _zero_times(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return relative positions in time for a single frame, which torchvision always has."""
    tables = {key.removesuffix("h") + "t": table for key, table in state.items() if key.endswith(".rel_pos.h")}
    return {key: torch.zeros_like(table[:1]) for key, table in tables.items() if key not in state}
