"""Infer the recipe of an MViT from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, groupby, product
from typing import Any

from torch import Tensor

from mvit_video.models.architecture import UNIT, BlockSpec, Patch, Pooling, block_table
from mvit_video.models.families.mvit.variants import mvit
from mvit_video.models.families.mvit.variants_v2 import mvitv2
from mvit_video.models.family import UntracedError
from mvit_video.models.position import position_in, square
from mvit_video.models.recipes import Recipe
from mvit_video.types import THW

PYTORCHVIDEO_EPS = 1e-5  # of the norms after pools, in its release 0.1.5
_PUBLISHED_CROP = 224
_PUBLISHED_HEAD_DIM = 64


def infer_recipe(
    tensors: Mapping[str, Tensor], num_frames: int | None, crop_size: int | None, norm_eps: float
) -> tuple[Recipe, list[str]]:
    """Return the recipe of the net that has these tensors by our names, and lines on what was assumed.

    Tensors do not show strides: unless a kernel shows them, the strides of the stem and of keys and values are those of
    the published models with these kernels and this number of stages.

    Args:
        num_frames: frames of a clip, if positions do not show it.
        crop_size: height and width in pixels, if positions do not show it.
        norm_eps: of the norms after pools, which tensors do not show.

    Raises:
        UntracedError: the tensors do not show the architecture.
    """
    kernel = _shape(tensors, "patch_embed.proj.weight", 5)[2:]
    num_blocks = 0
    while f"blocks.{num_blocks}.attn.proj.weight" in tensors:
        num_blocks += 1
    widths = [_shape(tensors, f"blocks.{i}.attn.proj.weight", 2)[0] for i in range(num_blocks)]
    if not widths:
        raise UntracedError("there is no blocks.0.attn.proj.weight")
    depths = tuple(len(list(run)) for _, run in groupby(widths))
    is_v2 = "blocks.0.attn.rel_pos.h" in tensors
    # published cubes tile the clip, or are as large as twice their stride, less one
    patch = Patch(THW(*kernel), THW(*(k if k % 2 == 0 else (k + 1) // 2 for k in kernel)))
    is_plain = len(depths) == 1 and "blocks.0.peg.conv.weight" in tensors
    if is_plain:
        num_frames, crop_size = num_frames or 1, crop_size or _PUBLISHED_CROP
    frames, crop = _input(tensors, patch, num_frames, crop_size)
    head = tensors.get("head.projection.weight")
    notes: list[str] = []
    pools = [tensor for key, tensor in tensors.items() if key.endswith(".pool.weight") and tensor.ndim == 5]
    if pools:
        pooling = _pooling(tensors, depths, is_v2, norm_eps, is_image=frames == 1)
    elif is_plain:
        pooling = Pooling(kernel=None, stride_kv=None, norm_eps=norm_eps)
        notes.append("heads are not in the file; assumed as published")
    else:
        raise UntracedError("there are no pooling weights, and max or average pooling has none")
    arguments: dict[str, Any] = {
        "num_classes": 0 if head is None else head.shape[0],
        "num_frames": frames,
        "crop_size": crop,
        "depths": depths,
        "embed_dim": widths[0],
        "num_heads": max(widths[0] // (pools[0].shape[0] if pools else _PUBLISHED_HEAD_DIM), 1),
        "patch": patch,
        "pooling": pooling,
        "position": position_in(tensors, list(accumulate(depths, initial=0))[:-1]),
        "class_token": "class_token" in tensors,
        "head_pool": "cls" if "class_token" in tensors else "gap",
    }
    if is_v2:
        wider = [_shape(tensors, f"blocks.{i}.norm1.weight", 1)[0] != widths[i] for i in range(num_blocks)]
        arguments["expand_in_attention"] = len(depths) == 1 or any(wider)
    if frames == 1:
        arguments["dropout"] = 0.0
    return Recipe(mvitv2 if is_v2 else mvit, arguments), notes


def _pooling(
    tensors: Mapping[str, Tensor], depths: tuple[int, ...], is_v2: bool, norm_eps: float, is_image: bool
) -> Pooling:
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
        norm_eps=norm_eps,
    )
    if pooling is None:
        raise UntracedError(f"pools of kernels {sorted(map(tuple, kernels))} in these blocks follow no published rule")
    return pooling


def _input(
    tensors: Mapping[str, Tensor], patch: Patch, num_frames: int | None, crop_size: int | None
) -> tuple[int, int]:
    """Return frames and crop size."""
    if "blocks.0.attn.rel_pos.h" in tensors:
        rows_h = _shape(tensors, "blocks.0.attn.rel_pos.h", 2)[0]
        time = tensors.get("blocks.0.attn.rel_pos.t")
        rows_t = 1 if time is None else time.shape[0]
        return (rows_t + 1) // 2 * patch.stride[0], (rows_h + 1) // 2 * patch.stride[1]
    if "position.spatial" in tensors and "position.temporal" in tensors:
        side = square(_shape(tensors, "position.spatial", 3)[1])
        if side is None:
            raise UntracedError(f"position.spatial of {tensors['position.spatial'].shape[1]} rows is no square")
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
        raise UntracedError(f"a joint position table of {cells} cells fits no clip of {crop} pixels; give crop_size")
    if num_frames is None or crop_size is None:
        raise UntracedError("without position tables num_frames and crop_size are unknown; give both")
    return num_frames, crop_size


def _shape(tensors: Mapping[str, Tensor], key: str, ndim: int) -> tuple[int, ...]:
    if key not in tensors:
        raise UntracedError(f"there is no {key}")
    if tensors[key].ndim != ndim:
        raise UntracedError(f"{key} has {tensors[key].ndim} axes instead of {ndim}")
    return tuple(tensors[key].shape)


def matching_pooling(
    depths: Sequence[int],
    trace: Callable[[BlockSpec], tuple[Any, ...]],
    seen: Sequence[tuple[Any, ...]],
    *,
    kernels: set[THW],
    strides_q: Sequence[THW],
    strides_kv: Sequence[THW | None],
    **fixed: Any,
) -> Pooling | None:
    """Return the first of the candidate poolings whose blocks have the traces `seen`; None if no candidate has.

    Args:
        trace: from a block to its trace.
        kernels: all kernels in the blocks.
        strides_q: candidates.
        strides_kv: candidates.
        **fixed: other arguments of the pooling.
    """
    for kernel, q, kv, adaptive, at_stride_1, everywhere in product(
        [*(kernels if len(kernels) == 1 else ()), None],
        strides_q,
        strides_kv,
        (True, False),
        (True, False),
        (False, True),
    ):
        pooling = Pooling(
            kernel=kernel,
            stride_q=q,
            stride_kv=kv,
            adaptive_kv_stride=adaptive,
            kv_at_stride_1=at_stride_1,
            q_everywhere=everywhere,
            **fixed,
        )
        if [trace(spec) for spec in block_table(depths, 1, 1, pooling)] == list(seen):
            return pooling
    return None
