"""State dicts in this project's layout; the names of a file's tensors show its layout (`models.family.Layout`).

A file of this project names its builder in its metadata; if that family lists no names, all names stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor, nn

from mvit_video.checkpoints.files import StoredState
from mvit_video.checkpoints.pickles import parsing
from mvit_video.models.family import OWN_FORMAT, Family, Layout, Settings, all_families, family_of
from mvit_video.types import CheckpointError

_PREFIXES = ("", "net.", "model.", "module.")  # of the net to load, where a file holds several


@dataclass
class Translation:
    """A checkpoint in this project's layout.

    Attributes:
        name: the file, or another name for messages.
        format: layout of the file.
        family: family of the layout.
        tensors: by our names.
        names: their names, by ours, of tensors that were only renamed.
        unexpected: their names that the layout does not have.
        notes: changes other than renaming.
        metadata: of a file of this project.
        settings: readers of `config`, if the layout has them.
        config: settings of the other project as text.
    """

    name: str
    format: str
    family: Family
    tensors: dict[str, Tensor]
    names: dict[str, str]
    unexpected: list[str]
    notes: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    settings: Settings | None = None
    config: str | None = None


def translate(state: StoredState, model: nn.Module | None = None) -> Translation:
    """Return a checkpoint in this project's layout.

    Args:
        model: model to load it into; its names are known if its family lists none.

    Raises:
        CheckpointError: no layout has its names, or a tensor is stored twice with different values.
    """
    with parsing(state.name):
        return _as_it_is(state, model) or _translated(state)


def _as_it_is(state: StoredState, model: nn.Module | None) -> Translation | None:
    """Keep all names of a file that names a builder, or of the model's state dict, if the family lists no names."""
    builder = state.metadata.get("builder")
    family = next((family for family in all_families() if builder in family.builders), family_of(model))
    if family is None or family.weights.layouts:
        return None
    own_names = set() if model is None else model.state_dict().keys()
    prefix = max(_PREFIXES, key=lambda one: sum(key.removeprefix(one) in own_names for key in state.tensors))
    prefix = "net." if state.is_lightning else prefix
    names = {key.removeprefix(prefix): key for key in state.tensors if key.startswith(prefix)}
    if builder is None and 2 * len(names.keys() & own_names) < len(state.tensors):
        return None
    return Translation(
        state.name,
        "lightning" if state.is_lightning else OWN_FORMAT,
        family,
        {ours: state.tensors[key] for ours, key in names.items()},
        names,
        [key for key in state.tensors if not key.startswith(prefix)] + list(state.others),
        notes=list(state.notes),
        metadata=state.metadata,
    )


def _prefix(state: StoredState) -> str:
    """Return the prefix that a wrapper of the net put before the names of its tensors."""
    stems = {layout.stem for _, layout in _layouts()}
    found = {key.removesuffix(stem) for key in state.tensors for stem in stems if key.endswith(stem)}
    found = {prefix for prefix in found if not prefix.endswith(".entry.")}
    if not found:
        raise _unknown(state)
    known = [prefix for prefix in _PREFIXES if prefix in found]
    if len(found) > 1 and not known:
        raise CheckpointError(f"{state.name}: holds {len(found)} nets, named {', '.join(sorted(found))}; expected one")
    return known[0] if known else found.pop()


def _unknown(state: StoredState) -> CheckpointError:
    first = next(iter(state.tensors))
    formats = dict.fromkeys(layout.format for _, layout in _layouts())
    return CheckpointError(
        f"{state.name}: not a model in a known layout ({', '.join(formats)}): {len(state.tensors)} tensors, "
        f"the first is {first}"
    )


def _layouts() -> list[tuple[Family, Layout]]:
    return [(family, layout) for family in all_families() for layout in family.weights.layouts]


def _translated(state: StoredState) -> Translation:
    prefix = _prefix(state)
    inside = {key: key.removeprefix(prefix) for key in state.tensors if key.startswith(prefix)}
    found = [
        ({key: ours for key, name in inside.items() if (ours := layout.ours(name))}, family, layout)
        for family, layout in _layouts()
    ]
    known, family, layout = max(found, key=lambda one: len(one[0]))
    if 2 * len(known) < len(inside):
        raise _unknown(state)
    if layout.is_staged:
        known = _by_blocks(known)
    is_ours = layout.format == OWN_FORMAT
    translation = Translation(
        state.name,
        "lightning" if state.is_lightning and is_ours else layout.format,
        family,
        {},
        {ours: key for key, ours in known.items()},
        [key for key in state.tensors if key not in known] + list(state.others),
        notes=list(state.notes),
        metadata=state.metadata,
        settings=layout.settings,
        config=state.config if layout.settings else None,
    )
    if prefix and not state.is_lightning:
        translation.notes.append(f"prefix {prefix} removed from the names")
    for key, ours in known.items():
        tensor = _with_our_axes(ours, state.tensors[key], translation)
        if ours in translation.tensors and not _same(translation.tensors[ours], tensor):
            raise CheckpointError(f"{state.name}: {key} and another name of the same tensor hold different values")
        translation.tensors[ours] = tensor
    num_duplicates = len(known) - len(translation.tensors)
    if num_duplicates:
        translation.notes.append(f"{num_duplicates} tensors are stored twice, with the same values")
    if layout.joins_qkv:
        _join_qkv(translation)
    return translation


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and (a.is_meta or b.is_meta or torch.equal(a, b))


def _with_our_axes(key: str, tensor: Tensor, translation: Translation) -> Tensor:
    """Add the axes that a layout does not have: batch of tables, time of kernels for images."""
    if key == "class_token" or key.startswith("position."):
        return tensor.reshape((1,) * (3 - tensor.ndim) + tensor.shape) if tensor.ndim < 3 else tensor
    if is_kernel(key) and tensor.ndim == 4:
        note = "kernels without a time axis got one of length 1"
        if note not in translation.notes:
            translation.notes.append(note)
        return tensor.unsqueeze(2)
    return tensor


def is_kernel(key: str) -> bool:
    """Say whether our name is of the kernel of a convolution, whose last axes are time, height and width."""
    return key.endswith(("patch_embed.proj.weight", ".pool.weight", ".conv.weight"))


def _join_qkv(translation: Translation) -> None:
    """Join q, k and v into one layer; incomplete or of several shapes, they are unexpected."""
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


def _by_blocks(names: Mapping[str, str]) -> dict[str, str]:
    """Return our names, by key, for names by stage and block (first column of a staged layout)."""
    sizes = _num_blocks(names.values())
    order = {stage: index for index, stage in enumerate(sorted(sizes))}
    starts = list(accumulate((sizes[stage] for stage in sorted(sizes)), initial=0))
    return {key: _flat(name, order, starts) for key, name in names.items()}


def _num_blocks(names: Iterable[str]) -> dict[int, int]:
    """Count the blocks of each stage."""
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
