"""The architecture of a PVT, PVTv2 or Twins-PCPVT, inferred from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mvit_video.checkpoints.architecture import Architecture, joined
from mvit_video.checkpoints.fitting import square
from mvit_video.models.architecture import Patch
from mvit_video.models.pvt import Pyramid
from mvit_video.types import THW

PUBLISHED_CROP = 224
PUBLISHED_HEAD_DIM = 64


def is_pyramid(tensors: Mapping[str, Tensor]) -> bool:
    """Whether stages begin by joining patches."""
    return any(re.fullmatch(r"blocks\.\d+\.entry\.patch_embed\.proj\.weight", key) for key in tensors)


def infer_pyramid(
    tensors: Mapping[str, Tensor], num_frames: int | None = None, crop_size: int | None = None
) -> Architecture:
    """The architecture whose tensors these are, if those of any PVT; they are to be compared with it.

    Args:
        num_frames: frames of a clip, for a checkpoint whose positions do not tell; one if not given.
        crop_size: height and width in pixels, likewise; as published if not given.

    Raises:
        KeyError: a tensor that every PVT has is missing.
    """
    num_blocks = sum(f"blocks.{n}.norm1.weight" in tensors for n in range(len(tensors)))
    starts = [n for n in range(num_blocks) if n == 0 or f"blocks.{n}.entry.patch_embed.proj.weight" in tensors]
    depths = tuple(end - start for start, end in zip(starts, [*starts[1:], num_blocks], strict=True))
    kernel = THW(*tensors["patch_embed.proj.weight"].shape[2:])
    patch = Patch(kernel, THW(*(k if k % 2 == 0 else (k + 1) // 2 for k in kernel)))
    is_convolutional = "blocks.0.mlp.conv.weight" in tensors
    arguments: dict[str, Any] = {
        "num_classes": len(tensors.get("head.projection.bias", ())),
        "depths": depths,
        "pyramid": _pyramid(tensors, starts),
        "patch": patch,
        "position": position_found(tensors, starts),
        "num_frames": num_frames or 1,
        "crop_size": crop_size or PUBLISHED_CROP,
    }
    class_tokens = [key for key in tensors if key.endswith("class_token") and "position" not in key]
    if not is_convolutional:
        arguments["class_token"] = bool(class_tokens)
    if "position.spatial" in tensors and (side := square(tensors["position.spatial"].shape[1])):
        arguments["num_frames"] = tensors["position.temporal"].shape[1] * patch.stride[0]
        arguments["crop_size"] = side * patch.stride[1]
    elif "position.table" in tensors:
        num_frames = num_frames or 1
        if side := square(tensors["position.table"].shape[1] * patch.stride[0] // num_frames):
            arguments["crop_size"] = side * patch.stride[1]
    notes = ["heads leave no trace; taken as published, of 64 channels where all stages divide, or else of the first's"]
    return Architecture("pvt_v2" if is_convolutional else "pvt", arguments, notes)


def position_found(tensors: Mapping[str, Tensor], starts: Sequence[int]) -> str | tuple[str, ...]:
    """The kinds of position encoding, or the only one, in a state dict whose stages start at these blocks."""
    kinds = [kind for kind, key in (("separable", "spatial"), ("joint", "table")) if f"position.{key}" in tensors]
    if "blocks.0.attn.rel_pos.h" in tensors:
        kinds.append("relative")
    pegs = [int(match[1]) for key in tensors if (match := re.fullmatch(r"blocks\.(\d+)\.peg\.conv\.weight", key))]
    if pegs:
        kinds.append("peg" if pegs == [0] else "peg_stages" if sorted(pegs) == list(starts) else "peg_first_five")
    return joined(kinds)


def _pyramid(tensors: Mapping[str, Tensor], starts: Sequence[int]) -> Pyramid:
    dims = tuple(tensors[f"blocks.{n}.norm1.weight"].shape[0] for n in starts)
    kernels = [tensors.get(f"blocks.{n}.attn.reduction.conv.weight") for n in starts]
    strides = tuple(THW(1, 1, 1) if kernel is None else THW(*kernel.shape[2:]) for kernel in kernels)
    head_dim = PUBLISHED_HEAD_DIM if all(dim % PUBLISHED_HEAD_DIM == 0 for dim in dims) else dims[0]
    is_linear = kernels[-1] is not None and strides[-1] == (1, 1, 1)
    return Pyramid(
        dims=dims,
        num_heads=tuple(dim // head_dim for dim in dims),
        strides_kv=Pyramid.strides_kv[: len(dims)] if is_linear else strides,
        mlp_ratios=tuple(len(tensors[f"blocks.{n}.mlp.fc1.bias"]) // dim for n, dim in zip(starts, dims, strict=True)),
        kv_reduction="linear_sra" if is_linear else "sra",
    )
