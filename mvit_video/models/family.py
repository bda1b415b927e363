"""Interface of a model family: its builder functions, its named models, and what it knows of weights of others."""

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

# `{n}` stands for a block, `{s}.{j}` for a stage and a block of it, `{x}` for q, k or v, `{a}` for an axis, `{i}` for 1
# or 2, `{c}` for 1 to 3, `{p}` for weight or bias, `{b}` for these and the statistics of a norm, `{e}` and `{l}` for
# layers of a patch embedding and of a reduction.
_PLACEHOLDERS = {
    "n": r"\d+", "s": r"\d+", "j": r"\d+", "x": "[qkv]", "a": "[hwt]", "i": "[12]", "p": "weight|bias",
    "e": "proj|norm", "l": "conv|norm", "c": "[123]",
    "b": "weight|bias|running_mean|running_var|num_batches_tracked",
}  # fmt: skip


class UntracedError(Exception):
    """Something that tensors do not show; its text ends a sentence."""


class Settings(NamedTuple):
    """Readers of the settings that a code base writes into its checkpoints, as text under `cfg`.

    Each raises `CheckpointError` for a text that is none of these settings.

    Attributes:
        recipe: of the net that they build, from the text and the tensors by our names.
        facts: what the weights were trained with.
        unstated: a line for each thing that no tensor shows and that old settings do not state, by argument.
    """

    recipe: Callable[[str, Mapping[str, Tensor]], Recipe]
    facts: Callable[[str], TrainingFacts]
    unstated: Callable[[str], dict[str, str]]


@dataclass(frozen=True)
class Layout:
    """Names of the tensors of a family in a code base: two columns, read in both directions.

    Attributes:
        format: the code base, such as `slowfast`.
        rules: our names and theirs; placeholders such as `{n}` stand for a block.
        stem: their name of a tensor that every net has, by which a prefix of all names is found.
        aliases: further rules of some versions, which are read and never written.
        is_staged: they number blocks by stage; our column has `stage.{s}.{j}.` for `blocks.{n}.`.
        joins_qkv: their q, k and v may be three layers that are one here.
        settings: readers of what their files carry under `cfg`.
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


def own_layout(stem: str, *names: str) -> Layout:
    """Return the layout of this project, by which state dicts without metadata are recognised."""
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
    """Knowledge of a family about weights; the answers here are those of a family without weights of others.

    Attributes:
        layouts: in which its tensors are read; an equal number of known names is in favour of the first.
        export_formats: layouts in which its tensors are written for others.
    """

    layouts: ClassVar[tuple[Layout, ...]] = ()
    export_formats: ClassVar[tuple[str, ...]] = ()

    def infer(
        self, tensors: Mapping[str, Tensor], format: str, *, num_frames: int | None, crop_size: int | None
    ) -> tuple[Recipe, list[str]]:
        """Return the recipe of the net that has these tensors, and lines on what was assumed.

        Args:
            tensors: by our names.
            format: layout that they were in.
            num_frames: frames of a clip, for tensors that do not tell.
            crop_size: height and width in pixels, also.

        Raises:
            UntracedError: the tensors do not tell.
        """
        raise UntracedError("this family tells it by the metadata of its own files only")

    def untraced_arguments(self, net: Any, stated: Recipe | None, format: str) -> dict[str, Any]:
        """Return arguments that leave no trace in tensors, as a file states them, to build a named net with.

        Args:
            net: the named net, on any device.
            stated: what the file states; None where it states nothing.
            format: layout of the file.
        """
        return {}

    def assumed(self, net: Any, format: str, origin: str) -> dict[str, str]:
        """Return a line for each argument that leaves no trace, by argument, for a file that states nothing.

        Args:
            origin: where the net's own arguments are from, to end "... leaves no trace; taken".
        """
        return {}

    def conflicts(self, net: Any, stated: Recipe) -> dict[str, str]:
        """Return a line for each argument that leaves no trace and that the file states otherwise, by argument."""
        return {}

    def export(self, net: Any, state: dict[str, Tensor], format: str) -> dict[str, Tensor]:
        """Return the state dict of a net in one of `export_formats`.

        Raises:
            CheckpointError: the other code base has no such net.
        """
        raise NotImplementedError

    def export_notes(self, net: Any, format: str) -> list[str]:
        """Return what the user has to tell the other code base, because no tensor shows it."""
        return []


@dataclass(frozen=True)
class Family:
    """A family of nets.

    Attributes:
        net: class of all its nets.
        modules: every public function that one of them defines is a builder that YAML can name.
        published: facts of its named models, by the name of the builder, whose docstring gets the result.
        weights: knowledge about its tensors.
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
