"""Augmentation, resizing, cropping and normalisation of clips; all frames of a clip are treated alike.

Letters: V views, T frames of a clip, U frames of a buffer, H W pixels, S pixels of a square crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from mvit_video.data.clips.randaugment import GREY, check_policy, randaugment_clip
from mvit_video.data.sampling import spatial_crops
from mvit_video.types import ConfigError, Interpolation

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


Pipeline = Literal["video", "image"]
RGB = tuple[float, float, float]

_CROP_TRIES = 10


@dataclass(frozen=True)
class Augment:
    """Augmentation of training clips.

    Attributes:
        scale: lowest and highest share of the frame's area for a random crop.
        aspect: lowest and highest ratio of width to height of a random crop.
        flip: probability of a horizontal flip; 0 if left and right matter.
        randaugment: RandAugment policy in timm's notation, such as `rand-m7-n4-mstd0.5-inc1`; None is off.
        erasing: random erasing; None is off.
        repeats: augmented copies of each decoded clip (repeated augmentation).
        pipeline: "video" applies RandAugment with grey fill to complete frames, then crops and flips, as SlowFast on
            Kinetics; "image" crops with bicubic resizing and flips first, then applies RandAugment with a fill of the
            mean colour, as timm and SlowFast on ImageNet.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    randaugment: str | None = None
    erasing: Erasing | None = None
    repeats: int = 1
    pipeline: Pipeline = "video"

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ConfigError(f"augment.scale must be 0 < low <= high <= 1, got {list(self.scale)}")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise ConfigError(f"augment.aspect must be 0 < low <= high, got {list(self.aspect)}")
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"augment.flip must be between 0 and 1, got {self.flip}")
        if self.randaugment is not None:
            check_policy(self.randaugment)
        if self.repeats < 1:
            raise ConfigError(f"augment.repeats must be at least 1, got {self.repeats}")
        if self.pipeline not in get_args(Pipeline):
            raise ConfigError(f"augment.pipeline must be video or image, got {self.pipeline!r}")


@dataclass(frozen=True)
class Normalize:
    """Normalisation of the input of a model, per channel, for pixels between 0 and 1."""

    mean: RGB = (0.45, 0.45, 0.45)
    std: RGB = (0.225, 0.225, 0.225)

    def __post_init__(self) -> None:
        if min(self.std) <= 0:
            raise ConfigError(f"std must be above 0, got {list(self.std)}")

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """Mean as bytes, such as (124, 116, 104) for ImageNet."""
        red, green, blue = (min(255, round(255 * value)) for value in self.mean)
        return red, green, blue

    def apply_(self, clips: Tensor) -> Tensor:
        """Normalise float clips `(..., 3, T, H, W)` with values from 0 to 255, in place."""
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        scale, shift = 1 / (255 * std), mean / std
        return clips.mul_(scale.view(3, 1, 1, 1)).sub_(shift.view(3, 1, 1, 1))


def random_crop_box(height: int, width: int, augment: Augment, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random crop in pixels.

    Source: torchvision `RandomResizedCrop.get_params`: area uniform, aspect log-uniform, ten tries, then the largest
    centre crop with an allowed aspect.
    """
    for _ in range(_CROP_TRIES):
        area = height * width * rng.uniform(*augment.scale)
        aspect = math.exp(rng.uniform(*np.log(augment.aspect)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    w = min(width, round(height * augment.aspect[1]))
    h = min(height, round(width / augment.aspect[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def augment_clip(
    frames: Tensor, crop_size: int, augment: Augment, normalize: Normalize, rng: np.random.Generator
) -> Tensor:
    """Return an augmented copy of a clip, from `(T, H, W, 3)` bytes to `(3, T, S, S)` float; random only by `rng`."""
    if augment.pipeline == "video":
        frames = _randaugment(frames, augment, GREY, rng)
        frames = _crop_and_flip(frames, crop_size, augment, "bilinear", rng)
    else:
        frames = _crop_and_flip(frames, crop_size, augment, "bicubic", rng)
        frames = _randaugment(frames, augment, normalize.mean_colour, rng)
    clip = torch.empty((3, len(frames), crop_size, crop_size), dtype=torch.float32)
    normalize.apply_(clip.copy_(frames.permute(3, 0, 1, 2)))
    return clip if augment.erasing is None else augment.erasing.apply_(clip, rng)


def _randaugment(
    frames: UInt8[Tensor, "T H W 3"], augment: Augment, fill: tuple[int, int, int], rng: np.random.Generator
) -> UInt8[Tensor, "T H W 3"]:
    return frames if augment.randaugment is None else randaugment_clip(frames, augment.randaugment, rng, fill)


def _crop_and_flip(
    frames: UInt8[Tensor, "T H W 3"],
    crop_size: int,
    augment: Augment,
    interpolation: Interpolation,
    rng: np.random.Generator,
) -> UInt8[Tensor, "T S S 3"]:
    top, left, height, width = random_crop_box(frames.shape[1], frames.shape[2], augment, rng)
    crop = _resize(frames[:, top : top + height, left : left + width], (crop_size, crop_size), interpolation)
    return crop.flip(2) if rng.random() < augment.flip else crop


def resize_frames(
    frames: UInt8[Tensor, "U H W 3"], short_side: int, interpolation: Interpolation = "bilinear"
) -> UInt8[Tensor, "U h w 3"]:
    """Resize frames to a short side of `short_side` pixels.

    Source: equal to torchvision's `resize`, of tensors for bilinear and of Pillow images for bicubic
    (tests/data/clips/test_transforms.py), without its import, which is slower than that of torch.
    """
    height, width = frames.shape[1:3]
    long_side = int(short_side * max(height, width) / min(height, width))
    size = (short_side, long_side) if height <= width else (long_side, short_side)
    return _resize(frames, size, interpolation)


def _resize(
    frames: UInt8[Tensor, "T H W 3"], size: tuple[int, int], interpolation: Interpolation
) -> UInt8[Tensor, "T h w 3"]:
    if frames.shape[1:3] == size:
        return frames
    if interpolation == "bilinear":
        resized = interpolate(frames.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False, antialias=True)
        return resized.permute(0, 2, 3, 1)
    # Pillow, as in published image recipes: torch differs by up to 20 levels
    height, width = size
    images = [Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC) for frame in frames.numpy()]
    return torch.from_numpy(np.stack([np.asarray(image) for image in images]))


def crop_views(
    frames: Tensor,
    clips: NDArray[np.int64],
    crop_size: int,
    short_side: int,
    num_crops: int,
    normalize: Normalize,
    *,
    rounding: Callable[[float], int] = math.ceil,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Return each crop of each clip of the resized frames; `(V, 3, T, S, S)` float.

    Args:
        frames: buffer `(U, H, W, 3)` of bytes.
        clips: rows of the buffer, `(num_clips, T)`.
        short_side: pixels of the short side after resizing.
        rounding: rounds the offset of a centre crop.
    """
    buffer = resize_frames(frames, short_side, interpolation).permute(3, 0, 1, 2)
    crops = spatial_crops(buffer.shape[2], buffer.shape[3], crop_size, num_crops, rounding)
    views = torch.empty((len(clips), num_crops, 3, clips.shape[1], crop_size, crop_size), dtype=torch.float32)
    for i, rows in enumerate(torch.from_numpy(clips)):
        for j, (top, left) in enumerate(crops.tolist()):
            views[i, j] = buffer[:, :, top : top + crop_size, left : left + crop_size][:, rows]
    return normalize.apply_(views.flatten(0, 1))
