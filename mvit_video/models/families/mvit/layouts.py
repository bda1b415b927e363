"""Names of the tensors of MViT here, in SlowFast, pytorchvideo and torchvision, and of MViTv2 in timm."""

from __future__ import annotations

from mvit_video.models.families.mvit.slowfast_config import facts_in_config, recipe_in_config, unstated_in_config
from mvit_video.models.family import TRANSFORMER, Layout, Rules, Settings, own_layout

_SHARED: Rules = tuple(
    (name, name)
    for name in (
        "blocks.{n}.norm{i}.{p}",
        "blocks.{n}.attn.qkv.{p}",
        "blocks.{n}.attn.proj.{p}",
        "blocks.{n}.mlp.fc{i}.{p}",
        "blocks.{n}.proj.{p}",
        "norm.{p}",
    )
)
OWN = own_layout("patch_embed.proj.weight", *TRANSFORMER, "patch_embed.proj.{p}", "blocks.{n}.proj.{p}")
SLOWFAST = Layout(
    "slowfast",
    (
        *_SHARED,
        ("class_token", "cls_token"),
        ("patch_embed.proj.{p}", "patch_embed.proj.{p}"),
        ("position.spatial", "pos_embed_spatial"),
        ("position.temporal", "pos_embed_temporal"),
        ("position.class_token", "pos_embed_class"),
        ("position.table", "pos_embed"),
        ("blocks.{n}.attn.pool_{x}.pool.weight", "blocks.{n}.attn.pool_{x}.weight"),
        ("blocks.{n}.attn.pool_{x}.norm.{p}", "blocks.{n}.attn.norm_{x}.{p}"),
        ("blocks.{n}.attn.rel_pos.{a}", "blocks.{n}.attn.rel_pos_{a}"),
        ("head.projection.{p}", "head.projection.{p}"),
    ),
    stem="patch_embed.proj.weight",
    aliases=(("blocks.{n}.attn.{x}.{p}", "blocks.{n}.attn.{x}.{p}"),),
    joins_qkv=True,
    settings=Settings(recipe_in_config, facts_in_config, unstated_in_config),
)
PYTORCHVIDEO = Layout(
    "pytorchvideo",
    (
        *(rule for rule in _SHARED if rule[0] not in ("norm.{p}", "blocks.{n}.attn.qkv.{p}")),
        ("class_token", "cls_positional_encoding.cls_token"),
        ("patch_embed.proj.{p}", "patch_embed.patch_model.{p}"),
        ("position.spatial", "cls_positional_encoding.pos_embed_spatial"),
        ("position.temporal", "cls_positional_encoding.pos_embed_temporal"),
        ("position.class_token", "cls_positional_encoding.pos_embed_class"),
        ("position.table", "cls_positional_encoding.pos_embed"),
        ("blocks.{n}.attn.{x}.{p}", "blocks.{n}.attn.{x}.{p}"),
        ("blocks.{n}.attn.pool_{x}.pool.weight", "blocks.{n}.attn.pool_{x}.weight"),
        ("blocks.{n}.attn.pool_{x}.norm.{p}", "blocks.{n}.attn.norm_{x}.{p}"),
        ("norm.{p}", "norm_embed.{p}"),
        ("head.projection.{p}", "head.proj.{p}"),
    ),
    stem="patch_embed.patch_model.weight",
    aliases=(
        ("blocks.{n}.attn.pool_{x}.pool.weight", "blocks.{n}.attn._attention_pool_{x}.pool.weight"),
        ("blocks.{n}.attn.pool_{x}.norm.{p}", "blocks.{n}.attn._attention_pool_{x}.norm.{p}"),
    ),
    joins_qkv=True,
)
TORCHVISION = Layout(
    "torchvision",
    (
        ("class_token", "pos_encoding.class_token"),
        ("patch_embed.proj.{p}", "conv_proj.{p}"),
        ("position.spatial", "pos_encoding.spatial_pos"),
        ("position.temporal", "pos_encoding.temporal_pos"),
        ("position.class_token", "pos_encoding.class_pos"),
        ("blocks.{n}.norm{i}.{p}", "blocks.{n}.norm{i}.{p}"),
        ("blocks.{n}.attn.qkv.{p}", "blocks.{n}.attn.qkv.{p}"),
        ("blocks.{n}.attn.proj.{p}", "blocks.{n}.attn.project.0.{p}"),
        ("blocks.{n}.attn.pool_{x}.pool.weight", "blocks.{n}.attn.pool_{x}.pool.weight"),
        ("blocks.{n}.attn.pool_{x}.norm.{p}", "blocks.{n}.attn.pool_{x}.norm_act.0.{p}"),
        ("blocks.{n}.attn.rel_pos.{a}", "blocks.{n}.attn.rel_pos_{a}"),
        ("blocks.{n}.mlp.fc1.{p}", "blocks.{n}.mlp.0.{p}"),
        ("blocks.{n}.mlp.fc2.{p}", "blocks.{n}.mlp.3.{p}"),
        ("blocks.{n}.proj.{p}", "blocks.{n}.project.{p}"),
        ("norm.{p}", "norm.{p}"),
        ("head.projection.{p}", "head.1.{p}"),
    ),
    stem="conv_proj.weight",
    joins_qkv=True,
)
_BLOCK_OF_TIMM = (
    ("norm{i}.{p}", "norm{i}.{p}"),
    ("attn.qkv.{p}", "attn.qkv.{p}"),
    ("attn.pool_{x}.pool.weight", "attn.pool_{x}.weight"),
    ("attn.pool_{x}.norm.{p}", "attn.norm_{x}.{p}"),
    ("attn.rel_pos.{a}", "attn.rel_pos_{a}"),
    ("attn.proj.{p}", "attn.proj.{p}"),
    ("mlp.fc{i}.{p}", "mlp.fc{i}.{p}"),
    ("proj.{p}", "shortcut_proj_attn.{p}"),
    ("proj.{p}", "shortcut_proj_mlp.{p}"),
)
TIMM = Layout(
    "timm",
    (
        *((f"stage.{{s}}.{{j}}.{ours}", f"stages.{{s}}.blocks.{{j}}.{theirs}") for ours, theirs in _BLOCK_OF_TIMM),
        ("class_token", "cls_token"),
        ("position.table", "pos_embed"),
        ("norm.{p}", "norm.{p}"),
        ("stage.0.patch_embed.proj.{p}", "patch_embed.proj.{p}"),
        ("head.projection.{p}", "head.fc.{p}"),
        ("head.projection.{p}", "head.{p}"),
    ),
    stem="patch_embed.proj.weight",
    is_staged=True,
)
