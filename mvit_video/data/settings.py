"""What the keys of `data` in a config stand for, beside clips, views and augmentation."""

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
    """Which classes there are.

    Attributes:
        names: all of them in the order of their numbers, or a file with one per line; None takes those of the training
            annotations, or of a checkpoint that is loaded.
    """

    names: list[str] | str | None = None


@dataclass(frozen=True)
class InputSpec:
    """What the model sees of a frame.

    Attributes:
        crop_size: pixels of the square that it sees.
        mean: of each channel, for pixels between 0 and 1.
        std: of each channel, for pixels between 0 and 1.
        decode_short_side: pixels of the shorter edge that larger frames of training videos are decoded to, or more
            where a view needs them; those of validation and test videos are decoded to the size that is cropped. None
            is their own size, which images always have.
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
    """How videos are read, and how many at once.

    Attributes:
        batch_size: videos in a batch of training, on each device; validation takes fewer where they have many views.
        test_batch_size: videos in a batch of testing and prediction, each with all its views.
        num_workers: loader processes; None is one per core, at most 8.
        backend: library that decodes; "decord" leaves files that it does not decode exactly to "pyav".
        index_cache: folder that keeps what a pass over the packets of a video tells, for later opens of it; None takes
            the one that came with the annotations, if any.
        allow_outside: videos outside of the folder that their paths start from may be read.
        on_error: "raise" at a video that cannot be read, or "skip" it and list it among the failures.
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
# where the keys of earlier versions are now
MOVED_KEYS = {name: group if "." in group else f"{group}.{name}" for group, names in _GROUPS.items() for name in names}


def in_new_layout(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run's config says of `data`, with the keys of earlier versions where they are now."""
    found = {key: value for key, value in data.items() if key not in MOVED_KEYS}
    for key in data.keys() & MOVED_KEYS.keys():
        group, name = MOVED_KEYS[key].split(".")
        found[group] = {**(found.get(group) or {}), name: data[key]}
    return found


def _require_at_least(least: int, key: str, value: int) -> None:
    if value < least:
        raise ConfigError(f"{key} must be at least {least}, got {value}")
