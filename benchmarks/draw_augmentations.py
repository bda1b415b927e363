"""Drawing of each augmentation of training clips, frame by frame, in one image.

The clips pan over the two photographs that come with scikit-learn.

    python benchmarks/draw_augmentations.py docs/images/augmentations.jpg
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images
from torch import Tensor

from mvit_video.data.clips.mixing import cutmix_, cutmix_box, mixup_
from mvit_video.data.clips.randaugment import randaugment_clip
from mvit_video.data.clips.transforms import Erasing

NUM_FRAMES, SIDE, GAP, TITLE = 6, 150, 4, 26


def pan(photograph: np.ndarray) -> Tensor:
    """Return a clip `(T, H, W, 3)` of bytes that pans over a photograph from left to right."""
    height, width = photograph.shape[:2]
    resized = Image.fromarray(photograph).resize((width * SIDE // height, SIDE))
    pixels = np.asarray(resized)
    lefts = np.linspace(0, pixels.shape[1] - SIDE, NUM_FRAMES).astype(int)
    return torch.from_numpy(np.stack([pixels[:, left : left + SIDE] for left in lefts]))


def to_float(clip: Tensor) -> Tensor:
    """Convert `(T, H, W, 3)` bytes to `(3, T, H, W)` floats around 0."""
    return clip.permute(3, 0, 1, 2).float() / 255 - 0.45


def to_bytes(clip: Tensor) -> Tensor:
    """Convert back, see `to_float`."""
    return ((clip + 0.45) * 255).clamp(0, 255).byte().permute(1, 2, 3, 0)


def rows() -> list[tuple[str, Tensor]]:
    """Yield a title and a clip of bytes for each row of the image."""
    clips = [pan(photograph) for photograph in load_sample_images().images]
    batch, target = torch.stack([to_float(clip) for clip in clips]), torch.eye(2)
    erased = Erasing(probability=1.0).apply_(to_float(clips[1]), np.random.default_rng(4))
    mixed, mixed_target = mixup_(batch.clone(), target, 0.6)
    cut, cut_target = cutmix_(batch.clone(), target, cutmix_box(SIDE, SIDE, 0.6, (85, 95)))
    drawn = [(f"rand-m7-n4-mstd0.5-inc1, draw {seed}", seed) for seed in (2, 6, 7)]
    return [
        ("a clip", clips[0]),
        *[
            (title, randaugment_clip(clips[0], "rand-m7-n4-mstd0.5-inc1", np.random.default_rng(seed)))
            for title, seed in drawn
        ],
        ("another clip", clips[1]),
        ("random erasing: one box, new noise in every frame", to_bytes(erased)),
        (f"mixup of both, {mixed_target[0, 0]:.2f} : {mixed_target[0, 1]:.2f}", to_bytes(mixed[0])),
        (f"cutmix of both, {cut_target[0, 0]:.2f} : {cut_target[0, 1]:.2f}", to_bytes(cut[0])),
    ]


def draw(path: str) -> None:
    """Write the image."""
    titled = rows()
    width = NUM_FRAMES * (SIDE + GAP) + GAP
    canvas = Image.new("RGB", (width, len(titled) * (SIDE + TITLE + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for row, (title, clip) in enumerate(titled):
        top = row * (SIDE + TITLE + GAP) + GAP
        pen.text((GAP, top + 3), title, fill="black", font=font)
        for t, frame in enumerate(clip.numpy()):
            canvas.paste(Image.fromarray(frame), (GAP + t * (SIDE + GAP), top + TITLE))
    canvas.save(path, quality=88)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", help="file to write, such as docs/images/augmentations.jpg")
    draw(parser.parse_args().image)
