"""Recipe of a net: builder function and arguments, which a checkpoint stores as metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any, get_args, get_type_hints

import torch

from mvit_video.types import CheckpointError

_VERSION = "1"  # of the metadata


@dataclass(frozen=True)
class Recipe:
    """A builder function and all its arguments."""

    builder: Callable[..., Any]
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the builder function."""
        return self.builder.__name__

    def build(self, **changes: Any) -> Any:
        """Build the net with random weights and some other arguments."""
        return self.builder(**(self.arguments | changes))

    def changed(self, **changes: Any) -> Recipe:
        """Return the recipe with some other arguments."""
        return replace(self, arguments=self.arguments | changes)

    def first_difference(self, shapes: Mapping[str, Sequence[int]]) -> str | None:
        """Describe the first tensor of a state dict with another shape in this net; None if all shapes are equal."""
        with torch.device("meta"):
            own = {key: tuple(value.shape) for key, value in self.build().state_dict().items()}
        for key in sorted(own.keys() | shapes.keys()):
            found = tuple(shapes[key]) if key in shapes else None
            if found != own.get(key):
                return f"{key} would be {own.get(key, 'absent')} but is {found or 'absent'}"
        return None

    def to_metadata(self) -> dict[str, str]:
        """Return the recipe as texts for a file.

        Raises:
            CheckpointError: JSON cannot hold an argument.
        """
        arguments = {
            key: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
            for key, value in self.arguments.items()
        }
        try:
            text = json.dumps(arguments)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"the arguments of {self.name} cannot be written to a file ({error})") from error
        return {"version": _VERSION, "builder": self.name, "arguments": text}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], builders: Mapping[str, Callable[..., Any]]) -> Recipe:
        """Read the texts of `to_metadata`.

        Args:
            builders: all builder functions by name.

        Raises:
            CheckpointError: the texts are not a recipe, or name no builder.
        """
        try:
            if metadata["version"] != _VERSION:
                raise ValueError(f"version {metadata['version']}, expected {_VERSION}")
            arguments = json.loads(metadata["arguments"], object_hook=_tuples)
            if not isinstance(arguments, dict):
                raise TypeError(f"arguments {str(arguments)[:80]}, expected a mapping")
            if metadata["builder"] not in builders:
                raise ValueError(f"there is no builder {metadata['builder']!r}")
            builder = builders[metadata["builder"]]
            hints = get_type_hints(builder)
            for key in [key for key, value in arguments.items() if isinstance(value, dict)]:
                hint: Any = hints.get(key)
                kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)]
                if not kinds:
                    raise TypeError(f"{key} takes no mapping")
                arguments[key] = kinds[0](**arguments[key])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(f"its metadata describe no model that can be built ({error})") from error
        return cls(builder, arguments)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _tuple(value) for key, value in values.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value
