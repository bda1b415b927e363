"""State-dict layouts of the reference code bases, as rules from this project's keys to theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_TORCHVISION = (
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^class_token$", "pos_encoding.class_token"),
    (r"^position\.(spatial|temporal)$", r"pos_encoding.\1_pos"),
    (r"^position\.class_token$", "pos_encoding.class_pos"),
    (r"\.attn\.proj\.", ".attn.project.0."),
    (r"\.(pool_[qkv])\.norm\.", r".\1.norm_act.0."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^(blocks\.\d+)\.proj\.", r"\1.project."),
    (r"^head\.projection\.", "head.1."),
)

_PYTORCHVIDEO = (
    (r"^patch_embed\.proj\.", "patch_embed.patch_model."),
    (r"^class_token$", "cls_positional_encoding.cls_token"),
    (r"^position\.table$", "cls_positional_encoding.pos_embed"),
    (r"^position\.(spatial|temporal)$", r"cls_positional_encoding.pos_embed_\1"),
    (r"^position\.class_token$", "cls_positional_encoding.pos_embed_class"),
    (r"\.pool_([qkv])\.pool\.", r".pool_\1."),
    (r"\.pool_([qkv])\.norm\.", r".norm_\1."),
    (r"^norm\.", "norm_embed."),
    (r"^head\.projection\.", "head.proj."),
)


def _rename(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of MViT v1 to the layout of torchvision's `mvit_v1_b`, whose tables have no batch axis."""
    renamed = {_rename(key, _TORCHVISION): value for key, value in state.items()}
    for key in ("class_token", "class_pos"):
        renamed[f"pos_encoding.{key}"] = renamed[f"pos_encoding.{key}"].flatten()
    for key in ("spatial_pos", "temporal_pos"):
        renamed[f"pos_encoding.{key}"] = renamed[f"pos_encoding.{key}"].squeeze(0)
    return renamed


def to_pytorchvideo(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of MViT v1 to the layout of pytorchvideo, which has qkv as three layers."""
    renamed = {_rename(key, _PYTORCHVIDEO): value for key, value in state.items()}
    for key in [key for key in renamed if ".attn.qkv." in key]:
        parts = renamed.pop(key).chunk(3)
        renamed |= {key.replace("qkv", letter): part for letter, part in zip("qkv", parts, strict=True)}
    return renamed
