"""Mixup and cutmix: each clip of a batch with its mirror image in the order of the batch.

Clips of `(B, 3, T, H, W)` are mixed as wholes: every frame alike, so that motion stays motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mvit_video.types import ConfigError


@dataclass(frozen=True)
class Mixing:
    """Mixes the clips and targets of a training batch; one draw for the whole batch.

    The partner of clip i is clip B-1-i: the copies that repeated augmentation puts side by side meet each other in the
    middle of a batch at most.

    Attributes:
        mixup_alpha: of the symmetric beta distribution of mixup's share; 0 leaves mixup out.
        cutmix_alpha: the same of the area that cutmix leaves.
        probability: of a batch to be mixed at all.
        cutmix_share: of the mixed batches that are cut rather than blended, where neither is left out.

    Source: mixup (arXiv:1710.09412), CutMix (arXiv:1905.04899), as SlowFast `mixup.py` draws them once a batch;
    agrees with timm's on single frames where the box has even sides (tests/data/clips/test_mixing.py).
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
        """The mixed batch; the memory of `clip` is written over.

        Args:
            target: share of each class.
            rng: the only source of chance.
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
    """Blend each clip with its partner in place.

    Args:
        share: of the clip itself, the rest is its partner's.
    """
    partner = clip.flip(0).mul_(1 - share)
    return clip.mul_(share).add_(partner), target * share + target.flip(0) * (1 - share)


def cutmix_(clip: Tensor, target: Tensor, box: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Put a box of each clip's partner in its place; targets go by the area that is left.

    Args:
        box: top, bottom, left and right in pixels, the second of each pair not included.
    """
    top, bottom, left, right = box
    clip[..., top:bottom, left:right] = clip[..., top:bottom, left:right].flip(0)
    share = 1 - (bottom - top) * (right - left) / (clip.shape[-2] * clip.shape[-1])
    return clip, target * share + target.flip(0) * (1 - share)


def cutmix_box(height: int, width: int, share: float, centre: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a box that leaves about `share` of the area, cut off at the edges.

    A side that comes out odd is one pixel shorter, as in the code of CutMix and SlowFast; recent timm keeps it.
    """
    side = (1 - share) ** 0.5
    h, w = int(height * side), int(width * side)
    y, x = centre
    return max(y - h // 2, 0), min(y + h // 2, height), max(x - w // 2, 0), min(x + w // 2, width)
