"""Settings of `data` in a config, except clips, views and augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mvit_video.data.clips.transforms import RGB
from mvit_video.data.dataset import OnError
from mvit_video.data.readers import Backend
from mvit_video.types import ConfigError


@dataclass(frozen=True)
class ClassSpec:
    """Classes of the data.

    Attributes:
        names: class names in the order of their numbers, or a file with one per line; None takes the classes of the
            checkpoint or the training annotations.
    """

    names: list[str] | str | None = None


@dataclass(frozen=True)
class InputSpec:
    """Input of the model.

    Attributes:
        crop_size: pixels of the square crop.
        mean: mean of each channel, for pixels between 0 and 1.
        std: standard deviation of each channel, for pixels between 0 and 1.
        decode_short_side: short side in pixels to which larger training videos are resized while decoding, or more if
            a view needs it; validation and test videos are decoded at the size to crop. None keeps the original size.
    """

    crop_size: int = 224
    mean: RGB = (0.45, 0.45, 0.45)
    std: RGB = (0.225, 0.225, 0.225)
    decode_short_side: int | None = None

    def __post_init__(self) -> None:
        _require_at_least(1, "input.crop_size", self.crop_size)
        if self.decode_short_side is not None and self.decode_short_side < self.crop_size:
            raise ConfigError(
                f"input.decode_short_side={self.decode_short_side} is below input.crop_size={self.crop_size}"
            )


@dataclass(frozen=True)
class LoadingSpec:
    """Reading and batching of videos.

    Attributes:
        batch_size: videos in a training batch on each device; validation takes fewer if they have many views.
        test_batch_size: videos in a batch of testing and prediction, each with all its views.
        num_workers: loader processes; None is one per core, at most 8.
        backend: decoding library; "decord" leaves files that it does not decode exactly to "pyav".
        index_cache: folder for packet indices, which save a pass over each video; None takes the one that comes with
            the annotations, if any.
        allow_outside: allow videos outside of the root folder.
        on_error: "raise" an error for a video that cannot be read, or "skip" it and list it among the failures.
        max_failure_rate: share of skipped videos above which training stops.
    """

    batch_size: int = 8
    test_batch_size: int = 1
    num_workers: int | None = None
    backend: Backend = "decord"
    index_cache: str | None = None
    allow_outside: bool = False
    on_error: OnError = "raise"
    max_failure_rate: float = 0.1

    def __post_init__(self) -> None:
        _require_at_least(1, "loading.batch_size", self.batch_size)
        _require_at_least(1, "loading.test_batch_size", self.test_batch_size)
        _require_at_least(0, "loading.num_workers", self.num_workers or 0)
        if not 0 <= self.max_failure_rate <= 1:
            raise ConfigError(f"loading.max_failure_rate must be between 0 and 1, got {self.max_failure_rate}")


_GROUPS = {
    "classes.names": ("class_names",),
    "clip": ("sampling",),
    "input": ("crop_size", "mean", "std", "decode_short_side"),
    "views": ("protocol", "frame_order", "corruption"),
    "loading": (
        "batch_size", "test_batch_size", "num_workers", "backend", "index_cache", "allow_outside", "on_error",
        "max_failure_rate",
    ),
}  # fmt: skip
# new places of the keys of earlier versions
MOVED_KEYS = {name: group if "." in group else f"{group}.{name}" for group, names in _GROUPS.items() for name in names}


def in_new_layout(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return `data` of a run's config with the keys of earlier versions in their new places."""
    found = {key: value for key, value in data.items() if key not in MOVED_KEYS}
    for key in data.keys() & MOVED_KEYS.keys():
        group, name = MOVED_KEYS[key].split(".")
        found[group] = {**(found.get(group) or {}), name: data[key]}
    return found


def _require_at_least(least: int, key: str, value: int) -> None:
    if value < least:
        raise ConfigError(f"{key} must be at least {least}, got {value}")
