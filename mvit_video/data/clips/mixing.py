"""Mixup and cutmix of a batch with itself in reverse order; all frames of a clip are mixed alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mvit_video.types import ConfigError


@dataclass(frozen=True)
class Mixing:
    """Mixup or cutmix of the clips and targets of a training batch, with one draw per batch.

    Clip i is mixed with clip B-1-i, so that adjacent copies of repeated augmentation rarely meet.

    Attributes:
        mixup_alpha: parameter of mixup's symmetric beta distribution; 0 turns mixup off.
        cutmix_alpha: parameter of cutmix's symmetric beta distribution; 0 turns cutmix off.
        probability: probability that a batch is mixed.
        cutmix_share: share of cutmix among mixed batches, if both are on.

    Source: mixup (arXiv:1710.09412), CutMix (arXiv:1905.04899), once per batch as SlowFast `mixup.py`; equal to timm on
    single frames if the box has even sides (tests/data/clips/test_mixing.py).
    """

    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    probability: float = 1.0
    cutmix_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("mixup_alpha", "cutmix_alpha"):
            if getattr(self, name) < 0:
                raise ConfigError(f"mixing.{name} must be at least 0, got {getattr(self, name)}")
        for name in ("probability", "cutmix_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"mixing.{name} must be between 0 and 1, got {getattr(self, name)}")

    def __call__(
        self, clip: Float[Tensor, "B 3 T H W"], target: Float[Tensor, "B K"], rng: np.random.Generator
    ) -> tuple[Float[Tensor, "B 3 T H W"], Float[Tensor, "B K"]]:
        """Return the mixed batch; `clip` is overwritten.

        Args:
            target: share of each class.
            rng: source of all randomness.
        """
        if self.mixup_alpha == self.cutmix_alpha == 0 or rng.random() >= self.probability:
            return clip, target
        if self.mixup_alpha and not (self.cutmix_alpha and rng.random() < self.cutmix_share):
            return mixup_(clip, target, rng.beta(self.mixup_alpha, self.mixup_alpha))
        share = rng.beta(self.cutmix_alpha, self.cutmix_alpha)
        height, width = clip.shape[-2:]
        centre = int(rng.integers(height)), int(rng.integers(width))
        return cutmix_(clip, target, cutmix_box(height, width, share, centre))


def mixup_(clip: Tensor, target: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Blend each clip with its partner in place; `share` is the weight of the clip itself."""
    partner = clip.flip(0).mul_(1 - share)
    return clip.mul_(share).add_(partner), target * share + target.flip(0) * (1 - share)


def cutmix_(clip: Tensor, target: Tensor, box: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Copy a box from each clip's partner; targets are weighted by area.

    Args:
        box: top, bottom, left and right in pixels; bottom and right are excluded.
    """
    top, bottom, left, right = box
    clip[..., top:bottom, left:right] = clip[..., top:bottom, left:right].flip(0)
    share = 1 - (bottom - top) * (right - left) / (clip.shape[-2] * clip.shape[-1])
    return clip, target * share + target.flip(0) * (1 - share)


def cutmix_box(height: int, width: int, share: float, centre: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of a box that leaves about `share` of the area, clipped at the edges.

    Odd sides become one pixel shorter, as in CutMix and SlowFast; recent timm keeps them.
    """
    side = (1 - share) ** 0.5
    h, w = int(height * side), int(width * side)
    y, x = centre
    return max(y - h // 2, 0), min(y + h // 2, height), max(x - w // 2, 0), min(x + w // 2, width)
