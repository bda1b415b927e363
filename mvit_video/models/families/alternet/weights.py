"""Weights of AlterNet: names of tensors here and in the published code, and the net that tensors show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mvit_video.models.families.alternet.variants import alternet
from mvit_video.models.family import Layout, Weights, own_layout
from mvit_video.models.recipes import Recipe

_STEM = "stem.0.weight"
_CROPS = {4: 224, 1: 32}  # published, by the stride of the stem, for nets without windows
_OWN = own_layout(
    _STEM,
    _STEM,
    "blocks.{n}.norm{c}.{b}",
    "blocks.{n}.conv{c}.weight",
    "blocks.{n}.shortcut.weight",
    "blocks.{n}.attn.q.weight",
    "blocks.{n}.attn.kv.weight",
    "blocks.{n}.attn.proj.{p}",
    "blocks.{n}.attn.rel_pos",
    "norm.{b}",
    "head.projection.{p}",
)
_PUBLISHED = Layout(
    "alternet",
    (
        (_STEM, "layer0.layer0.0.weight"),
        ("stage.{s}.{j}.norm1.{b}", "layer{s}.{j}.bn.{b}"),
        ("stage.{s}.{j}.norm{c}.{b}", "layer{s}.{j}.conv{c}.0.{b}"),
        ("stage.{s}.{j}.norm{c}.{b}", "layer{s}.{j}.norm{c}.{b}"),
        ("stage.{s}.{j}.conv{c}.weight", "layer{s}.{j}.conv{c}.2.weight"),
        ("stage.{s}.{j}.conv{c}.weight", "layer{s}.{j}.conv{c}.weight"),
        ("stage.{s}.{j}.conv1.weight", "layer{s}.{j}.conv.weight"),
        ("stage.{s}.{j}.shortcut.weight", "layer{s}.{j}.shortcut.0.weight"),
        ("stage.{s}.{j}.attn.q.weight", "layer{s}.{j}.attn.attn.to_q.weight"),
        ("stage.{s}.{j}.attn.kv.weight", "layer{s}.{j}.attn.attn.to_kv.weight"),
        ("stage.{s}.{j}.attn.proj.{p}", "layer{s}.{j}.attn.attn.to_out.0.{p}"),
        ("stage.{s}.{j}.attn.rel_pos", "layer{s}.{j}.attn.pos_embedding"),
        ("norm.{b}", "classifier.0.bn.{b}"),
        ("head.projection.{p}", "classifier.0.dense.{p}"),
    ),
    stem="layer0.layer0.0.weight",
    is_staged=True,
)


class AlterNetWeights(Weights):
    """Weights of the published AlterNets."""

    layouts = (_OWN, _PUBLISHED)

    def infer(
        self, tensors: Mapping[str, Tensor], format: str, *, num_frames: int | None, crop_size: int | None
    ) -> tuple[Recipe, list[str]]:
        num_blocks = sum(f"blocks.{n}.norm1.weight" in tensors for n in range(len(tensors)))
        starts = [n for n in range(num_blocks) if n == 0 or f"blocks.{n}.shortcut.weight" in tensors]
        stages = [range(start, end) for start, end in zip(starts, [*starts[1:], num_blocks], strict=True)]
        attention = [n for n in range(num_blocks) if f"blocks.{n}.attn.rel_pos" in tensors]
        stem_stride = 4 if tensors[_STEM].shape[-1] > 3 else 1
        arguments: dict[str, Any] = {
            "num_classes": len(tensors.get("head.projection.bias", ())),
            "num_frames": num_frames or 1,
            "crop_size": crop_size or _CROPS[stem_stride],
            "depths": tuple(len(stage) for stage in stages),
            "num_pairs": tuple(sum(n in stage for n in attention) for stage in stages),
            "block": "bottleneck" if "blocks.0.conv3.weight" in tensors else "basic",
            "stem_stride": stem_stride,
        }
        if attention:
            window = (tensors[f"blocks.{attention[0]}.attn.rel_pos"].shape[0] + 1) // 2
            arguments |= {"window_size": window, "crop_size": crop_size or 8 * stem_stride * window}
        notes = ["num_frames and crop_size are not in the file; assumed one frame whose last map is one window"]
        return Recipe(alternet, arguments), notes
