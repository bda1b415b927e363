"""State-dict layouts: what this project's tensors are called in the code bases that published MViT weights.

A layout is a table of two columns, our names and theirs, read in both directions. `{n}` stands for a block, `{s}.{j}`
for a stage and a block of it, `{x}` for q, k or v, `{a}` for an axis, `{i}` for 1 or 2, `{c}` for 1 to 3, `{p}` for
weight or bias, `{b}` for these and the statistics of a norm, `{e}` and `{l}` for layers of a patch embedding and of a
reduction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from mvit_video.checkpoints.contents import StoredState
from mvit_video.checkpoints.pickles import parsing
from mvit_video.checkpoints.stages import STAGED, Rules, flat
from mvit_video.types import CheckpointError

FOREIGN_FORMATS = ("slowfast", "pytorchvideo", "torchvision")

_PLACEHOLDERS = {
    "n": r"\d+", "s": r"\d+", "j": r"\d+", "x": "[qkv]", "a": "[hwt]", "i": "[12]", "p": "weight|bias",
    "e": "proj|norm", "l": "conv|norm", "c": "[123]",
    "b": "weight|bias|running_mean|running_var|num_batches_tracked",
}  # fmt: skip

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
_OURS: Rules = (
    *_SHARED,
    *(
        (name, name)
        for name in (
            "class_token",
            "patch_embed.{e}.{p}",
            "position.spatial",
            "position.temporal",
            "position.class_token",
            "position.table",
            "blocks.{n}.attn.pool_{x}.pool.weight",
            "blocks.{n}.attn.pool_{x}.norm.{p}",
            "blocks.{n}.attn.rel_pos.{a}",
            "blocks.{n}.attn.q.{p}",
            "blocks.{n}.attn.kv.{p}",
            "blocks.{n}.attn.reduction.{l}.{p}",
            "blocks.{n}.mlp.conv.{p}",
            "blocks.{n}.peg.conv.{p}",
            "blocks.{n}.stage_norm.{p}",
            "blocks.{n}.entry.class_token",
            "blocks.{n}.entry.patch_embed.{e}.{p}",
            "blocks.{n}.entry.position.spatial",
            "blocks.{n}.entry.position.temporal",
            "blocks.{n}.entry.position.class_token",
            "blocks.{n}.entry.position.table",
            "head.projection.{p}",
            "stem.0.weight",
            "blocks.{n}.norm{c}.{b}",
            "blocks.{n}.conv{c}.weight",
            "blocks.{n}.shortcut.weight",
            "blocks.{n}.attn.rel_pos",
            "norm.{b}",
        )
    ),
)
_SLOWFAST: Rules = (
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
)
_PYTORCHVIDEO: Rules = (
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
)
_TORCHVISION: Rules = (
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
)
# Names that a layout had in some of its versions, beside or instead of those above.
_SEPARATE_QKV: Rules = (("blocks.{n}.attn.{x}.{p}", "blocks.{n}.attn.{x}.{p}"),)
_POOL_ALIASES: Rules = (
    ("blocks.{n}.attn.pool_{x}.pool.weight", "blocks.{n}.attn._attention_pool_{x}.pool.weight"),
    ("blocks.{n}.attn.pool_{x}.norm.{p}", "blocks.{n}.attn._attention_pool_{x}.norm.{p}"),
)

# An equal number of known names is in favour of the first.
_WRITTEN: dict[str, Rules] = {
    "mvit_video": _OURS,
    "slowfast": _SLOWFAST,
    "pytorchvideo": _PYTORCHVIDEO,
    "torchvision": _TORCHVISION,
}
_READ: dict[str, Rules] = {
    "mvit_video": _OURS,
    "slowfast": _SLOWFAST + _SEPARATE_QKV,
    "pytorchvideo": _PYTORCHVIDEO + _POOL_ALIASES,
    "torchvision": _TORCHVISION,
    **STAGED,
}
_STEMS = (
    "patch_embed.proj.weight",
    "patch_embed.patch_model.weight",
    "conv_proj.weight",
    "patch_embed1.proj.weight",
    "patch_embeds.0.proj.weight",
    "stem.0.weight",
    "layer0.layer0.0.weight",
)
_PREFIXES = ("", "net.", "model.", "module.")  # which of several nets in a file is meant


@dataclass
class Translation:
    """A checkpoint in this project's layout.

    Attributes:
        name: the file, or what stands for it, for messages.
        format: layout that it was in.
        tensors: by our names.
        names: theirs of those that were only renamed.
        unexpected: their names that the layout does not know.
        notes: what was done beside renaming.
        metadata: of a file of this project.
        config: SlowFast's settings as text, where a file of its layout carries them.
    """

    name: str
    format: str
    tensors: dict[str, Tensor]
    names: dict[str, str]
    unexpected: list[str]
    notes: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    config: str | None = None


@cache
def _pattern(name: str) -> re.Pattern[str]:
    pattern = re.escape(name).replace(r"\{", "{").replace(r"\}", "}")
    for letter, values in _PLACEHOLDERS.items():
        pattern = pattern.replace(f"{{{letter}}}", f"(?P<{letter}>{values})")
    return re.compile(pattern)


def _renamed(key: str, rules: Iterable[tuple[str, str]]) -> str | None:
    """The second column's name for a name of the first."""
    for name, other in rules:
        if match := _pattern(name).fullmatch(key):
            return other.format(**match.groupdict())
    return None


def _prefix(state: StoredState) -> str:
    """What a wrapper of the net left before the names of its tensors."""
    found = {key.removesuffix(stem) for key in state.tensors for stem in _STEMS if key.endswith(stem)}
    found = {prefix for prefix in found if not prefix.endswith(".entry.")}
    if not found:
        raise _unknown(state)
    known = [prefix for prefix in _PREFIXES if prefix in found]
    if len(found) > 1 and not known:
        raise CheckpointError(f"{state.name}: holds {len(found)} nets, named {', '.join(sorted(found))}; expected one")
    return known[0] if known else found.pop()


def _unknown(state: StoredState) -> CheckpointError:
    first = next(iter(state.tensors))
    return CheckpointError(
        f"{state.name}: not a model in a layout known here ({', '.join(_READ)}): {len(state.tensors)} tensors, "
        f"the first is {first}"
    )


def translate(state: StoredState) -> Translation:
    """A checkpoint in this project's layout, its own layout recognised by its names.

    Raises:
        CheckpointError: its names are those of no layout; or a tensor is stored twice with different values.
    """
    with parsing(state.name):
        return _translated(state)


def _translated(state: StoredState) -> Translation:
    prefix = _prefix(state)
    inside = {key: key.removeprefix(prefix) for key in state.tensors if key.startswith(prefix)}
    known = {
        layout: {
            key: ours
            for key, name in inside.items()
            if (ours := _renamed(name, [(theirs, ours) for ours, theirs in rules]))
        }
        for layout, rules in _READ.items()
    }
    layout = max(known, key=lambda name: len(known[name]))
    if 2 * len(known[layout]) < len(inside):
        raise _unknown(state)
    if layout in STAGED:
        known[layout] = flat(known[layout])
    translation = Translation(
        state.name,
        "lightning" if state.is_lightning and layout == "mvit_video" else layout,
        {},
        {ours: key for key, ours in known[layout].items()},
        [key for key in state.tensors if key not in known[layout]] + list(state.others),
        notes=list(state.notes),
        metadata=state.metadata,
        config=state.config if layout == "slowfast" else None,
    )
    if prefix and not state.is_lightning:
        translation.notes.append(f"prefix {prefix} removed from the names")
    for key, ours in known[layout].items():
        tensor = _with_our_axes(ours, state.tensors[key], translation)
        if ours in translation.tensors and not _same(translation.tensors[ours], tensor):
            raise CheckpointError(f"{state.name}: {key} and another name of the same tensor hold different values")
        translation.tensors[ours] = tensor
    num_duplicates = len(known[layout]) - len(translation.tensors)
    if num_duplicates:
        translation.notes.append(f"{num_duplicates} tensors are stored twice, with the same values")
    if layout not in ("mvit_video", *STAGED):
        _join_qkv(translation)
    return translation


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and (a.is_meta or b.is_meta or torch.equal(a, b))


def _with_our_axes(key: str, tensor: Tensor, translation: Translation) -> Tensor:
    """Adds the axes that a layout leaves out: batch of tables, time of kernels for images."""
    if key == "class_token" or key.startswith("position."):
        return tensor.reshape((1,) * (3 - tensor.ndim) + tensor.shape) if tensor.ndim < 3 else tensor
    if is_kernel(key) and tensor.ndim == 4:
        note = "kernels without a time axis got one of length 1"
        if note not in translation.notes:
            translation.notes.append(note)
        return tensor.unsqueeze(2)
    return tensor


def is_kernel(key: str) -> bool:
    """Whether our name is that of a convolution's kernel, whose last axes are time, height and width."""
    return key.endswith(("patch_embed.proj.weight", ".pool.weight", ".conv.weight"))


def _join_qkv(translation: Translation) -> None:
    """Makes one layer of three; of an incomplete or uneven set, each is unexpected."""
    tensors = translation.tensors
    parts = [key for key in tensors if re.fullmatch(r"blocks\.\d+\.attn\.[qkv]\.(weight|bias)", key)]
    for joint in dict.fromkeys(re.sub(r"\.[qkv]\.", ".qkv.", key) for key in parts):
        names = [joint.replace(".qkv.", f".{letter}.") for letter in "qkv"]
        found = {name: tensors.pop(name) for name in names if name in tensors}
        even = len({tuple(tensor.shape) for tensor in found.values()}) == 1
        if len(found) == 3 and even and joint not in tensors:
            tensors[joint] = torch.cat(list(found.values()))
        else:
            translation.unexpected.extend(translation.names.get(name, name) for name in found)
    if parts and "q, k and v joined" not in translation.notes:
        translation.notes.append("q, k and v joined")


def to_layout(state: Mapping[str, Tensor], format: str, *, is_image: bool = False) -> dict[str, Tensor]:
    """A state dict of this project in another layout.

    Args:
        format: one of `FOREIGN_FORMATS`.
        is_image: the net takes images, whose patch embedding SlowFast and pytorchvideo have without a time axis.

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
            theirs = _renamed(name, _WRITTEN[format])
            if theirs is None:
                raise CheckpointError(f"{format} has no place for {name}")
            renamed[theirs] = piece
    return renamed


def to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in the layout of torchvision's `mvit_v1_b` and `mvit_v2_s`, whose tables have no batch axis."""
    return to_layout(state, "torchvision")


def to_pytorchvideo(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in the layout of pytorchvideo, which has q, k and v as three layers."""
    return to_layout(state, "pytorchvideo")
