"""Weights of PVT, PVTv2 and Twins-PCPVT: names of tensors, and the net that tensors show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mvit_video.models.architecture import Patch
from mvit_video.models.families.pvt.net import Pyramid
from mvit_video.models.families.pvt.variants import pvt, pvt_v2
from mvit_video.models.family import TRANSFORMER, Layout, Rules, UntracedError, Weights, own_layout
from mvit_video.models.position import position_in, square
from mvit_video.models.recipes import Recipe
from mvit_video.types import THW, ConfigError

_PUBLISHED_CROP = 224
_PUBLISHED_HEAD_DIM = 64
_OWN = own_layout(
    "patch_embed.proj.weight",
    *TRANSFORMER,
    "patch_embed.{e}.{p}",
    "blocks.{n}.mlp.conv.{p}",
    "blocks.{n}.stage_norm.{p}",
    "blocks.{n}.entry.patch_embed.{e}.{p}",
    *(f"blocks.{{n}}.entry.{name}" for name in TRANSFORMER[:5]),  # class token and positions
)
# our name with `{s}.{j}` (stage, block in it) for the number of the block; their name
_BLOCK = (
    ("norm{i}.{p}", "norm{i}.{p}"),
    ("attn.q.{p}", "attn.q.{p}"),
    ("attn.kv.{p}", "attn.kv.{p}"),
    ("attn.proj.{p}", "attn.proj.{p}"),
    ("attn.reduction.conv.{p}", "attn.sr.{p}"),
    ("attn.reduction.norm.{p}", "attn.norm.{p}"),
    ("mlp.fc{i}.{p}", "mlp.fc{i}.{p}"),
)
_PATCH_EMBED = "stage.{s}.patch_embed.{e}.{p}"


def _blocks(theirs: str, conv: str | None = None) -> Rules:
    rules = tuple((f"stage.{{s}}.{{j}}.{ours}", f"{theirs}.{name}") for ours, name in _BLOCK)
    return rules + ((("stage.{s}.{j}.mlp.conv.{p}", f"{theirs}.{conv}.{{p}}"),) if conv else ())


_PVT = Layout(
    "pvt",
    (
        *_blocks("block{s}.{j}", conv="mlp.dwconv.dwconv"),
        (_PATCH_EMBED, "patch_embed{s}.{e}.{p}"),
        ("stage.{s}.position.table", "pos_embed{s}"),
        ("stage.{s}.norm.{p}", "norm{s}.{p}"),
        ("stage.last.class_token", "cls_token"),
        ("norm.{p}", "norm.{p}"),
        ("head.projection.{p}", "head.{p}"),
    ),
    stem="patch_embed1.proj.weight",
    is_staged=True,
)
_TIMM = Layout(
    "timm",
    (
        *_blocks("stages.{s}.blocks.{j}", conv="mlp.dwconv"),
        ("norm.{p}", "norm.{p}"),
        ("stage.0.patch_embed.{e}.{p}", "patch_embed.{e}.{p}"),
        (_PATCH_EMBED, "stages.{s}.downsample.{e}.{p}"),
        ("stage.{s}.norm.{p}", "stages.{s}.norm.{p}"),
        ("head.projection.{p}", "head.{p}"),
    ),
    stem="patch_embed.proj.weight",
    is_staged=True,
)
_TWINS = Layout(
    "twins",
    (
        *_blocks("blocks.{s}.{j}"),
        (_PATCH_EMBED, "patch_embeds.{s}.{e}.{p}"),
        ("stage.{s}.peg.conv.{p}", "pos_block.{s}.proj.0.{p}"),
        ("norm.{p}", "norm.{p}"),
        ("head.projection.{p}", "head.{p}"),
    ),
    stem="patch_embeds.0.proj.weight",
    is_staged=True,
)


class PVTWeights(Weights):
    """Weights of the published PVT, PVTv2 and Twins-PCPVT, and of timm."""

    layouts = (_OWN, _PVT, _TIMM, _TWINS)

    def infer(
        self, tensors: Mapping[str, Tensor], format: str, *, num_frames: int | None, crop_size: int | None
    ) -> tuple[Recipe, list[str]]:
        try:
            return _inferred(tensors, num_frames, crop_size)
        except KeyError as error:
            raise UntracedError(f"there is no {error.args[0]}") from error
        except ConfigError as error:
            raise UntracedError(f"{error}") from error


def _inferred(tensors: Mapping[str, Tensor], num_frames: int | None, crop_size: int | None) -> tuple[Recipe, list[str]]:
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
        "position": position_in(tensors, starts),
        "num_frames": num_frames or 1,
        "crop_size": crop_size or _PUBLISHED_CROP,
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
    notes = ["heads are not in the file; assumed of 64 channels, or of the first stage's if 64 divides not all stages"]
    return Recipe(pvt_v2 if is_convolutional else pvt, arguments), notes


def _pyramid(tensors: Mapping[str, Tensor], starts: Sequence[int]) -> Pyramid:
    dims = tuple(tensors[f"blocks.{n}.norm1.weight"].shape[0] for n in starts)
    kernels = [tensors.get(f"blocks.{n}.attn.reduction.conv.weight") for n in starts]
    strides = tuple(THW(1, 1, 1) if kernel is None else THW(*kernel.shape[2:]) for kernel in kernels)
    head_dim = _PUBLISHED_HEAD_DIM if all(dim % _PUBLISHED_HEAD_DIM == 0 for dim in dims) else dims[0]
    is_linear = kernels[-1] is not None and strides[-1] == (1, 1, 1)
    return Pyramid(
        dims=dims,
        num_heads=tuple(dim // head_dim for dim in dims),
        strides_kv=Pyramid.strides_kv[: len(dims)] if is_linear else strides,
        mlp_ratios=tuple(len(tensors[f"blocks.{n}.mlp.fc1.bias"]) // dim for n, dim in zip(starts, dims, strict=True)),
        kv_reduction="linear_sra" if is_linear else "sra",
    )
