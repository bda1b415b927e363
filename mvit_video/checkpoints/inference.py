"""The architecture of a checkpoint: as the file states it, or inferred from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate, groupby
from typing import Any

from torch import Tensor

from mvit_video.checkpoints.alternets import infer_alternet, is_alternet
from mvit_video.checkpoints.architecture import Architecture, matching_pooling
from mvit_video.checkpoints.fitting import square
from mvit_video.checkpoints.layouts import Translation
from mvit_video.checkpoints.pickles import one_line, parsing
from mvit_video.checkpoints.pyramids import (
    PUBLISHED_CROP,
    PUBLISHED_HEAD_DIM,
    infer_pyramid,
    is_pyramid,
    position_found,
)
from mvit_video.checkpoints.slowfast_config import architecture_in_config
from mvit_video.models.architecture import UNIT, Patch, Pooling
from mvit_video.types import THW, CheckpointError, ConfigError

PYTORCHVIDEO_EPS = 1e-5  # of the norms after pools, in its release 0.1.5


_HINT = "name the model: create_model(name, checkpoint=...)"


class UnknownArchitectureError(CheckpointError):
    """The tensors do not tell the architecture, and nothing else does: the user has to name the model."""


class _Unknown(Exception):
    """Something that the tensors do not tell; its text ends a sentence."""


def architecture_of(
    checkpoint: Translation, *, num_frames: int | None = None, crop_size: int | None = None
) -> Architecture:
    """The architecture that a checkpoint states, or else that its tensors tell; see `infer`.

    Raises:
        CheckpointError: what it states is not what it holds, or its tensors do not tell.
    """
    with parsing(checkpoint.name):
        stated = stated_architecture(checkpoint)
        if stated is not None:
            return stated
        architecture = infer(checkpoint.tensors, checkpoint.name, num_frames=num_frames, crop_size=crop_size)
    if checkpoint.format == "pytorchvideo":
        pooling = replace(architecture.arguments["pooling"], norm_eps=PYTORCHVIDEO_EPS)
        return replace(architecture, arguments=architecture.arguments | {"pooling": pooling})
    return architecture


def stated_architecture(checkpoint: Translation) -> Architecture | None:
    """The architecture that the metadata of a file of this project or the settings in one of SlowFast state.

    Raises:
        CheckpointError: what they state is not what the file holds, or no net here.
    """
    tensors, is_ours = checkpoint.tensors, "builder" in checkpoint.metadata
    if not is_ours and checkpoint.config is None:
        return None
    num_blocks = sum(f"blocks.{i}.norm1.weight" in tensors for i in range(len(tensors)))
    what = "metadata" if is_ours else "cfg"
    try:
        if is_ours:
            architecture = Architecture.from_metadata(checkpoint.metadata)
        else:
            architecture = _in_config(checkpoint, num_blocks)
        depths = architecture.arguments["depths"]
        if sum(depths) != num_blocks:  # before as many blocks are built as a file asks for
            raise CheckpointError(f"its {what} have depths {depths}, it has {num_blocks}")
        difference = _difference(architecture, tensors, what)
        if difference:
            raise CheckpointError(f"its {what} and its tensors disagree: {difference}")
    except CheckpointError as error:
        if is_ours:
            raise CheckpointError(f"{checkpoint.name}: {error}") from error
        raise UnknownArchitectureError(f"{checkpoint.name}: {error}", _HINT) from error
    return architecture


def _difference(architecture: Architecture, tensors: Mapping[str, Tensor], what: str) -> str | None:
    try:
        return architecture.first_difference({key: tensor.shape for key, tensor in tensors.items()})
    except Exception as error:  # arguments of a file can be anything
        raise CheckpointError(f"its {what} name no model that can be built ({one_line(error)})") from error


def _in_config(checkpoint: Translation, num_blocks: int) -> Architecture:
    tensors = checkpoint.tensors
    head, stem = (tensors.get(f"{name}.weight") for name in ("head.projection", "patch_embed.proj"))
    return architecture_in_config(
        checkpoint.config or "",
        num_blocks=num_blocks,
        num_classes=head.shape[0] if head is not None and head.ndim else 0,
        embed_dim=stem.shape[0] if stem is not None and stem.ndim else 0,
    )


def infer(
    tensors: Mapping[str, Tensor], name: str, *, num_frames: int | None = None, crop_size: int | None = None
) -> Architecture:
    """The architecture of a net from its state dict in this project's layout.

    Strides leave no trace in the tensors: those of the stem and of keys and values are taken as in the published models
    of these kernels and this number of stages, unless a kernel tells them.

    Args:
        name: the file, for messages.
        num_frames: frames of a clip, for a checkpoint whose positions do not tell.
        crop_size: height and width in pixels, likewise.

    Raises:
        UnknownArchitectureError: something is not told, or nothing with published strides has tensors of these shapes.
    """
    try:
        if is_alternet(tensors):
            architecture = infer_alternet(tensors, num_frames, crop_size)
        elif is_pyramid(tensors):
            architecture = _inferred_pyramid(tensors, num_frames, crop_size)
        else:
            architecture = _inferred(tensors, num_frames, crop_size)
        shapes = {key: tensor.shape for key, tensor in tensors.items()}
        if difference := architecture.first_difference(shapes):
            raise _Unknown(f"as {architecture.builder} of depths {architecture.arguments['depths']}, {difference}")
    except _Unknown as error:
        raise UnknownArchitectureError(
            f"{name}: the architecture cannot be inferred: {error}",
            _HINT,
        ) from error
    return architecture


def _inferred_pyramid(tensors: Mapping[str, Tensor], num_frames: int | None, crop_size: int | None) -> Architecture:
    try:
        return infer_pyramid(tensors, num_frames, crop_size)
    except KeyError as error:
        raise _Unknown(f"there is no {error.args[0]}") from error
    except ConfigError as error:
        raise _Unknown(f"{error}") from error


def _inferred(tensors: Mapping[str, Tensor], num_frames: int | None, crop_size: int | None) -> Architecture:
    kernel = _shape(tensors, "patch_embed.proj.weight", 5)[2:]
    num_blocks = 0
    while f"blocks.{num_blocks}.attn.proj.weight" in tensors:
        num_blocks += 1
    widths = [_shape(tensors, f"blocks.{i}.attn.proj.weight", 2)[0] for i in range(num_blocks)]
    if not widths:
        raise _Unknown("there is no blocks.0.attn.proj.weight")
    depths = tuple(len(list(run)) for _, run in groupby(widths))
    is_v2 = "blocks.0.attn.rel_pos.h" in tensors
    # published cubes are twice as large as their stride, less one, or tile the clip
    patch = Patch(THW(*kernel), THW(*(k if k % 2 == 0 else (k + 1) // 2 for k in kernel)))
    is_plain = len(depths) == 1 and "blocks.0.peg.conv.weight" in tensors
    if is_plain:
        num_frames, crop_size = num_frames or 1, crop_size or PUBLISHED_CROP
    frames, crop = _input(tensors, patch, num_frames, crop_size)
    head = tensors.get("head.projection.weight")
    notes: list[str] = []
    pools = [tensor for key, tensor in tensors.items() if key.endswith(".pool.weight") and tensor.ndim == 5]
    if pools:
        pooling = _inferred_pooling(tensors, depths, is_v2, is_image=frames == 1)
    elif is_plain:
        pooling = Pooling(kernel=None, stride_kv=None)
        notes.append("heads leave no trace; taken as published")
    else:
        raise _Unknown("there are no pooling weights, and max or average pooling leaves no trace")
    arguments: dict[str, Any] = {
        "num_classes": 0 if head is None else head.shape[0],
        "num_frames": frames,
        "crop_size": crop,
        "depths": depths,
        "embed_dim": widths[0],
        "num_heads": max(widths[0] // (pools[0].shape[0] if pools else PUBLISHED_HEAD_DIM), 1),
        "patch": patch,
        "pooling": pooling,
        "position": position_found(tensors, list(accumulate(depths, initial=0))[:-1]),
        "class_token": "class_token" in tensors,
        "head_pool": "cls" if "class_token" in tensors else "gap",
    }
    if is_v2:
        wider = [_shape(tensors, f"blocks.{i}.norm1.weight", 1)[0] != widths[i] for i in range(num_blocks)]
        arguments["expand_in_attention"] = len(depths) == 1 or any(wider)
    if frames == 1:
        arguments["dropout"] = 0.0
    return Architecture("mvitv2" if is_v2 else "mvit", arguments, notes)


def _inferred_pooling(tensors: Mapping[str, Tensor], depths: tuple[int, ...], is_v2: bool, is_image: bool) -> Pooling:
    def kernel(block: int, letter: str) -> THW | None:
        weight = tensors.get(f"blocks.{block}.attn.pool_{letter}.pool.weight")
        return None if weight is None else THW(*weight.shape[2:])

    seen = [(kernel(i, "q"), kernel(i, "k")) for i in range(sum(depths))]
    kernels = {kernel for pair in seen for kernel in pair if kernel}
    coarsest = 2 ** max(len(depths) - (2 if is_image else 1), 0)
    strides_kv = [THW(1, coarsest, coarsest)]
    if first := seen[0][1]:
        strides_kv.append(THW(*(k - 1 if k > 1 else 1 for k in first)))
    pooling = matching_pooling(
        depths,
        lambda spec: (spec.kernel_q, spec.kernel_kv),
        seen,
        kernels=kernels,
        strides_q=[THW(1, 2, 2), UNIT],
        strides_kv=[*strides_kv, None],
        residual=is_v2,
    )
    if pooling is None:
        raise _Unknown(f"pools of kernels {sorted(map(tuple, kernels))} in these blocks belong to no published rule")
    return pooling


def _input(
    tensors: Mapping[str, Tensor], patch: Patch, num_frames: int | None, crop_size: int | None
) -> tuple[int, int]:
    """Frames and crop size."""
    if "blocks.0.attn.rel_pos.h" in tensors:
        rows_h = _shape(tensors, "blocks.0.attn.rel_pos.h", 2)[0]
        time = tensors.get("blocks.0.attn.rel_pos.t")
        rows_t = 1 if time is None else time.shape[0]
        return (rows_t + 1) // 2 * patch.stride[0], (rows_h + 1) // 2 * patch.stride[1]
    if "position.spatial" in tensors and "position.temporal" in tensors:
        side = square(_shape(tensors, "position.spatial", 3)[1])
        if side is None:
            raise _Unknown(f"position.spatial of {tensors['position.spatial'].shape[1]} rows is no square")
        return _shape(tensors, "position.temporal", 3)[1] * patch.stride[0], side * patch.stride[1]
    if "position.table" in tensors:
        cells = _shape(tensors, "position.table", 3)[1] - ("class_token" in tensors)
        if num_frames is None and crop_size is None and patch.kernel[0] == 1 and (side := square(cells)):
            return 1, side * patch.stride[1]
        crop = crop_size or 224
        if num_frames and (side := square(cells * patch.stride[0] // num_frames)):
            return num_frames, side * patch.stride[1]
        if cells % (crop // patch.stride[1]) ** 2 == 0:
            return cells // (crop // patch.stride[1]) ** 2 * patch.stride[0], crop
        raise _Unknown(f"a joint position table of {cells} cells fits no clip of {crop} pixels; give crop_size")
    if num_frames is None or crop_size is None:
        raise _Unknown("without position tables num_frames and crop_size are not told; give both")
    return num_frames, crop_size


def _shape(tensors: Mapping[str, Tensor], key: str, ndim: int) -> tuple[int, ...]:
    if key not in tensors:
        raise _Unknown(f"there is no {key}")
    if tensors[key].ndim != ndim:
        raise _Unknown(f"{key} has {tensors[key].ndim} axes instead of {ndim}")
    return tuple(tensors[key].shape)
