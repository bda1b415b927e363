"""RandAugment of timm, with the same operations and magnitudes for all frames of a clip."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from mvit_video.types import ConfigError

GREY = (128, 128, 128)

_POLICY = re.compile(r"rand(-((m|n|mmax)\d+|(p|mstd)\d+(\.\d+)?|inc[01]))*")


def randaugment_clip(
    frames: UInt8[Tensor, "T H W 3"],
    policy: str,
    rng: np.random.Generator,
    fill: tuple[int, int, int] = GREY,
) -> UInt8[Tensor, "T H W 3"]:
    """Apply RandAugment to a clip, all frames alike.

    Args:
        policy: policy in timm's notation, such as `rand-m7-n4-mstd0.5-inc1`: magnitude 7, 4 operations, each skipped
            with probability 1/2, standard deviation of the magnitude 0.5, operations that increase with it.
        rng: source of all randomness.
        fill: colour of new pixels after rotation, shear and translation.

    Raises:
        ConfigError: timm does not know the policy.

    Source: RandAugment (arXiv:1909.13719) with SlowFast's interpolation; equal to timm on one frame
    (tests/data/clips/test_randaugment.py).
    """
    augment, seed = _transform(policy, fill), int(rng.integers(2**32))
    changed = torch.empty_like(frames)
    for frame, out in zip(frames.numpy(), changed.numpy(), strict=True):
        with _global_draws(seed):  # timm uses global generators
            out[:] = augment(Image.fromarray(frame))
    return changed


def check_policy(policy: str) -> None:
    """Refuse a policy that timm does not know."""
    if not _POLICY.fullmatch(policy):  # timm ignores what it does not understand
        raise ConfigError(
            f"augment.randaugment={policy!r} is not a policy of RandAugment; expected one such as "
            "rand-m7-n4-mstd0.5-inc1"
        )


@lru_cache
def _transform(policy: str, fill: tuple[int, int, int]) -> Any:
    from timm.data.auto_augment import rand_augment_transform  # slow to import, and only for training

    check_policy(policy)
    transform = rand_augment_transform(policy, {"interpolation": Image.Resampling.BICUBIC, "img_mean": fill})
    for operation in transform.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """Keep the highest bits of each channel; timm also draws less than 1 or more than 8, which Pillow refuses."""
    return ImageOps.posterize(image, min(bits, 8)) if bits > 0 else Image.new(image.mode, image.size)


@contextmanager
def _global_draws(seed: int) -> Iterator[None]:
    """Seed Python's and NumPy's global generators within a block."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
