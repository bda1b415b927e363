"""Random erasing of clips."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mvit_video.types import ConfigError

_TRIES = 10


@dataclass(frozen=True)
class Erasing:
    """Random erasing: noise in a box of a normalised clip, in the same place in all frames.

    Attributes:
        probability: probability that a clip is changed.
        scale: lowest and highest share of the frame's area.
        aspect: lowest and highest ratio of height to width.

    Source: random erasing (arXiv:1708.04896), as SlowFast `random_erasing.py` in mode "pixel" with one box for the
    whole clip (tests/data/clips/test_erasing.py).
    """

    probability: float = 0.25
    scale: tuple[float, float] = (0.02, 1 / 3)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"erasing.probability must be between 0 and 1, got {self.probability}")
        if not 0 < self.scale[0] <= self.scale[1] < 1:
            raise ConfigError(f"erasing.scale must be 0 < low <= high < 1, got {list(self.scale)}")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise ConfigError(f"erasing.aspect must be 0 < low <= high, got {list(self.aspect)}")

    def apply_(self, clip: Float[Tensor, "3 T H W"], rng: np.random.Generator) -> Float[Tensor, "3 T H W"]:
        """Erase in place."""
        if rng.random() >= self.probability:
            return clip
        if box := self.draw_box(clip.shape[-2], clip.shape[-1], rng):
            top, left, height, width = box
            noise = rng.standard_normal((*clip.shape[:2], height, width), dtype=np.float32)
            clip[..., top : top + height, left : left + width] = torch.from_numpy(noise)
        return clip

    def draw_box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int] | None:
        """Return top, left, height and width in pixels; None if ten boxes do not fit."""
        for _ in range(_TRIES):
            area = height * width * rng.uniform(*self.scale)
            aspect = math.exp(rng.uniform(*np.log(self.aspect)))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < h < height and 0 < w < width:
                return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
        return None
