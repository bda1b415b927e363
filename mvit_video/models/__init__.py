"""Models by name: every builder function of this package is a model that YAML and `create_model` can name."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from mvit_video.models.architecture import BlockSpec, Pooling, block_table
from mvit_video.models.mvit import (
    Features,
    MViT,
    mvit,
    mvit_b24_32x3,
    mvit_b_16x4,
    mvit_b_32x3,
    mvit_b_64x3,
    mvit_s_16x4,
)
from mvit_video.types import ConfigError

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    builder.__name__: builder for builder in (mvit_b_16x4, mvit_b_32x3, mvit_b_64x3, mvit_b24_32x3, mvit_s_16x4)
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models, sorted, that match a shell pattern such as `mvit_b*`."""
    return sorted(name for name in _BUILDERS if fnmatchcase(name, pattern))


def create_model(
    name: str,
    *,
    num_classes: int = 400,
    num_frames: int | None = None,
    crop_size: int | None = None,
    **overrides: Any,
) -> nn.Module:
    """Build a model by name, with random weights.

    Args:
        num_frames: frames of a clip; None takes the model's own.
        crop_size: height and width of a clip in pixels; None takes the model's own.
        **overrides: other arguments of the builder function of that name.

    Raises:
        ConfigError: no model has this name, or the builder has no such argument.
    """
    if name not in _BUILDERS:
        raise ConfigError(f"there is no model {name!r}; mv.list_models() names them: {', '.join(list_models())}")
    sizes = {"num_frames": num_frames, "crop_size": crop_size}
    sizes = {key: value for key, value in sizes.items() if value is not None}
    try:
        return _BUILDERS[name](num_classes=num_classes, **sizes, **overrides)
    except TypeError as error:
        raise ConfigError(f"model {name}: {error}") from error


__all__ = [
    "BlockSpec",
    "Features",
    "MViT",
    "Pooling",
    "block_table",
    "create_model",
    "list_models",
    "mvit",
    "mvit_b24_32x3",
    "mvit_b_16x4",
    "mvit_b_32x3",
    "mvit_b_64x3",
    "mvit_s_16x4",
]
