"""Interface of a model family: builder functions, named models, and layouts of weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from mvit_video.models.families import FAMILIES
from mvit_video.models.net import VideoNet
from mvit_video.models.published import TrainingFacts, Variant
from mvit_video.models.recipes import Recipe

Rules = tuple[tuple[str, str], ...]
OWN_FORMAT = "mvit_video"

# `{n}` is a block, `{s}.{j}` a stage and a block in it, `{x}` q, k or v, `{a}` an axis, `{i}` 1 or 2, `{c}` 1 to 3,
# `{p}` weight or bias, `{b}` these and the statistics of a norm, `{e}` and `{l}` layers of the stem and of a reduction.
_PLACEHOLDERS = {
    "n": r"\d+", "s": r"\d+", "j": r"\d+", "x": "[qkv]", "a": "[hwt]", "i": "[12]", "p": "weight|bias",
    "e": "proj|norm", "l": "conv|norm", "c": "[123]",
    "b": "weight|bias|running_mean|running_var|num_batches_tracked",
}  # fmt: skip


class UntracedError(Exception):
    """Something that tensors do not show; its text is the end of a sentence."""


class Settings(NamedTuple):
    """Readers of the settings that another project writes into its checkpoints, as text under `cfg`.

    Each raises `CheckpointError` for any other text.

    Attributes:
        recipe: of the net, from the text and the tensors by our names.
        facts: facts of the training.
        unstated: by argument, a line for what neither tensors nor old settings show.
    """

    recipe: Callable[[str, Mapping[str, Tensor]], Recipe]
    facts: Callable[[str], TrainingFacts]
    unstated: Callable[[str], dict[str, str]]


@dataclass(frozen=True)
class Layout:
    """Names of the tensors of a family in another project: two columns, read in both directions.

    Attributes:
        format: the project, such as `slowfast`.
        rules: our names and theirs, with placeholders such as `{n}` for a block.
        stem: their name of a tensor of every net; it shows the prefix of all names.
        aliases: more rules of some versions, for reading only.
        is_staged: they number blocks by stage; our column has `stage.{s}.{j}.` for `blocks.{n}.`.
        joins_qkv: their q, k and v may be three layers, here one.
        settings: readers of `cfg` in their files.
    """

    format: str
    rules: Rules
    stem: str
    aliases: Rules = ()
    is_staged: bool = False
    joins_qkv: bool = False
    settings: Settings | None = None

    def ours(self, name: str) -> str | None:
        """Return our name for one of theirs."""
        return _renamed(name, tuple((theirs, ours) for ours, theirs in self.rules + self.aliases))

    def theirs(self, name: str) -> str | None:
        """Return their name for one of ours."""
        return _renamed(name, self.rules)


TRANSFORMER = (  # our names in all families of transformers
    "class_token",
    *(f"position.{part}" for part in ("spatial", "temporal", "class_token", "table")),
    "blocks.{n}.norm{i}.{p}",
    *(f"blocks.{{n}}.attn.{layer}.{{p}}" for layer in ("qkv", "q", "kv", "proj", "reduction.{l}", "pool_{x}.norm")),
    "blocks.{n}.attn.pool_{x}.pool.weight",
    "blocks.{n}.attn.rel_pos.{a}",
    "blocks.{n}.mlp.fc{i}.{p}",
    "blocks.{n}.peg.conv.{p}",
    "norm.{p}",
    "head.projection.{p}",
)


def own_layout(stem: str, *names: str) -> Layout:
    """Return the layout of this project, for state dicts without metadata."""
    return Layout(OWN_FORMAT, tuple((name, name) for name in names), stem)


@cache
def _pattern(name: str) -> re.Pattern[str]:
    pattern = re.escape(name).replace(r"\{", "{").replace(r"\}", "}")
    for letter, values in _PLACEHOLDERS.items():
        pattern = pattern.replace(f"{{{letter}}}", f"(?P<{letter}>{values})")
    return re.compile(pattern)


def _renamed(key: str, rules: Rules) -> str | None:
    for name, other in rules:
        if match := _pattern(name).fullmatch(key):
            return other.format(**match.groupdict())
    return None


class Weights:
    """Weights of a family; the methods here are for a family without published weights.

    Attributes:
        layouts: layouts that are read; of two that know as many names the first is chosen.
        export_formats: layouts that are written.
    """

    layouts: ClassVar[tuple[Layout, ...]] = ()
    export_formats: ClassVar[tuple[str, ...]] = ()

    def infer(
        self, tensors: Mapping[str, Tensor], format: str, *, num_frames: int | None, crop_size: int | None
    ) -> tuple[Recipe, list[str]]:
        """Return the recipe of the net that has these tensors, and lines on what was assumed.

        Args:
            tensors: by our names.
            format: layout of the file.
            num_frames: frames of a clip, if the tensors do not show it.
            crop_size: height and width in pixels, if the tensors do not show it.

        Raises:
            UntracedError: the tensors do not show the architecture.
        """
        raise UntracedError("only files of this project, with their metadata, show it")

    def untraced_arguments(self, net: Any, stated: Recipe | None, format: str) -> dict[str, Any]:
        """Return the arguments that a file states and tensors do not show, for building a named net.

        Args:
            net: the named net, on any device.
            stated: recipe in the file; None without one.
            format: layout of the file.
        """
        return {}

    def assumed(self, net: Any, format: str, origin: str) -> dict[str, str]:
        """Return, by argument, a line for each argument that neither tensors nor the file show.

        Args:
            origin: source of the net's arguments, as the end of "... is not in the file; assumed".
        """
        return {}

    def conflicts(self, net: Any, stated: Recipe) -> dict[str, str]:
        """Return, by argument, a line for each argument that tensors do not show and that differs in the file."""
        return {}

    def export(self, net: Any, state: dict[str, Tensor], format: str) -> dict[str, Tensor]:
        """Return the state dict of a net in one of `export_formats`.

        Raises:
            CheckpointError: the other project has no such net.
        """
        raise NotImplementedError

    def export_notes(self, net: Any, format: str) -> list[str]:
        """Return what the user has to set in the other project, because tensors do not show it."""
        return []


@dataclass(frozen=True)
class Family:
    """Family of nets.

    Attributes:
        net: class of all its nets.
        modules: modules of builders: YAML can name each of their public functions.
        published: facts of the named models by builder, whose docstring gets the result.
        weights: layouts of its weights.
    """

    net: type[VideoNet]
    modules: tuple[ModuleType, ...]
    published: Mapping[str, Variant]
    weights: Weights = field(default_factory=Weights)

    def __post_init__(self) -> None:
        for name, one in self.published.items():
            build = self.builders[name]
            build.__doc__ = f"{build.__doc__} Published top1: {one.result} ({one.source})."

    @cached_property
    def builders(self) -> dict[str, Callable[..., Any]]:
        """All builder functions by name."""
        return {
            name: one
            for module in self.modules
            for name, one in vars(module).items()
            if not name.startswith("_") and callable(one) and not isinstance(one, type)
            if getattr(one, "__module__", None) == module.__name__
        }


def all_families() -> list[Family]:
    """Return the families of `FAMILIES`."""
    return [import_module(f"{package}.family").FAMILY for package in FAMILIES]


def builders() -> dict[str, Callable[..., Any]]:
    """Return every builder function that YAML and checkpoints can name."""
    return {name: build for family in all_families() for name, build in family.builders.items()}


def family_of(net: object) -> Family | None:
    """Return the family of a net; None for a net of no family."""
    return next((family for family in all_families() if isinstance(net, family.net)), None)
