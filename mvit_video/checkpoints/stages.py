"""Layouts of nets whose blocks others number stage by stage, and this project one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import accumulate

Rules = tuple[tuple[str, str], ...]

# Ours with a stage and a place in it, `{s}.{j}`, where this project has one number; theirs. PVT numbers stages from 1.
_BLOCK = (
    ("norm{i}.{p}", "norm{i}.{p}"),
    ("attn.q.{p}", "attn.q.{p}"),
    ("attn.kv.{p}", "attn.kv.{p}"),
    ("attn.proj.{p}", "attn.proj.{p}"),
    ("attn.reduction.conv.{p}", "attn.sr.{p}"),
    ("attn.reduction.norm.{p}", "attn.norm.{p}"),
    ("mlp.fc{i}.{p}", "mlp.fc{i}.{p}"),
)
_MVIT_V2_OF_TIMM = (
    ("attn.qkv.{p}", "attn.qkv.{p}"),
    ("attn.pool_{x}.pool.weight", "attn.pool_{x}.weight"),
    ("attn.pool_{x}.norm.{p}", "attn.norm_{x}.{p}"),
    ("attn.rel_pos.{a}", "attn.rel_pos_{a}"),
    ("proj.{p}", "shortcut_proj_attn.{p}"),
    ("proj.{p}", "shortcut_proj_mlp.{p}"),
)
_PATCH_EMBED = "stage.{s}.patch_embed.{e}.{p}"


def _blocks(theirs: str, conv: str | None = None) -> Rules:
    rules = tuple((f"stage.{{s}}.{{j}}.{ours}", f"{theirs}.{name}") for ours, name in _BLOCK)
    return rules + ((("stage.{s}.{j}.mlp.conv.{p}", f"{theirs}.{conv}.{{p}}"),) if conv else ())


STAGED: dict[str, Rules] = {
    "pvt": (
        *_blocks("block{s}.{j}", conv="mlp.dwconv.dwconv"),
        (_PATCH_EMBED, "patch_embed{s}.{e}.{p}"),
        ("stage.{s}.position.table", "pos_embed{s}"),
        ("stage.{s}.norm.{p}", "norm{s}.{p}"),
        ("stage.last.class_token", "cls_token"),
        ("norm.{p}", "norm.{p}"),
        ("head.projection.{p}", "head.{p}"),
    ),
    "timm": (
        *_blocks("stages.{s}.blocks.{j}", conv="mlp.dwconv"),
        *((f"stage.{{s}}.{{j}}.{ours}", f"stages.{{s}}.blocks.{{j}}.{theirs}") for ours, theirs in _MVIT_V2_OF_TIMM),
        ("class_token", "cls_token"),
        ("position.table", "pos_embed"),
        ("norm.{p}", "norm.{p}"),
        ("head.projection.{p}", "head.fc.{p}"),
        ("stage.0.patch_embed.{e}.{p}", "patch_embed.{e}.{p}"),
        (_PATCH_EMBED, "stages.{s}.downsample.{e}.{p}"),
        ("stage.{s}.norm.{p}", "stages.{s}.norm.{p}"),
        ("head.projection.{p}", "head.{p}"),
    ),
    "twins": (
        *_blocks("blocks.{s}.{j}"),
        (_PATCH_EMBED, "patch_embeds.{s}.{e}.{p}"),
        ("stage.{s}.peg.conv.{p}", "pos_block.{s}.proj.0.{p}"),
        ("norm.{p}", "norm.{p}"),
        ("head.projection.{p}", "head.{p}"),
    ),
    "alternet": (
        ("stem.0.weight", "layer0.layer0.0.weight"),
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
}


def flat(names: Mapping[str, str]) -> dict[str, str]:
    """Names by stage and place as this project has them, for each key.

    Args:
        names: from their keys to the first column of a table of `STAGED`.
    """
    sizes = _num_blocks(names.values())
    order = {stage: index for index, stage in enumerate(sorted(sizes))}
    starts = list(accumulate((sizes[stage] for stage in sorted(sizes)), initial=0))
    return {key: _flat(name, order, starts) for key, name in names.items()}


def _num_blocks(names: Iterable[str]) -> dict[int, int]:
    """Blocks of each stage."""
    sizes: dict[int, int] = {}
    for name in names:
        if match := re.match(r"stage\.(\d+)\.(\d+)\.", name):
            stage, place = int(match[1]), int(match[2])
            sizes[stage] = max(sizes.get(stage, 0), place + 1)
    return sizes


def _flat(name: str, order: Mapping[int, int], starts: list[int]) -> str:
    match = re.match(r"stage\.(last|\d+)\.(?:(\d+)\.)?", name)
    if not match or not order:
        return name
    rest = name[match.end() :]
    stage = len(order) - 1 if match[1] == "last" else order.get(int(match[1]), int(match[1]))
    if stage >= len(order):
        return name
    if match[2]:
        return f"blocks.{starts[stage] + int(match[2])}.{rest}"
    if rest.startswith("peg."):
        return f"blocks.{starts[stage]}.{rest}"
    if rest.startswith("norm."):  # that of the last stage is the net's
        return rest if stage == len(order) - 1 else f"blocks.{starts[stage + 1] - 1}.stage_{rest}"
    return rest if stage == 0 else f"blocks.{starts[stage]}.entry.{rest}"
