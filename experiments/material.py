"""Training data of the small nets: the clips of the demo, and the digits in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from experiments.training import Examples, Split
from mvit_video.analysis.batches import read_batches
from mvit_video.data import load_annotations
from mvit_video.data.clips.views import UniformViews
from mvit_video.data.digits import LABEL_SETS, load_digit_pools, write_digits
from mvit_video.types import ClipSpec, ViewSpec

CLIP = ClipSpec(num_frames=8, sampling_rate=4)
CLIP_CROP, _CLIP_SIDE = 32, 36
_MEAN_INK, _STD_INK = 0.3, 0.38
PAPER = -_MEAN_INK / _STD_INK  # normalised pixel without ink


def demo_clips(root: Path, labels: str, num_train: int, num_val: int) -> Split:
    """Return videos of the demo, written if missing and decoded once.

    The class depends only on the order of frames: the four classes of `orbit`; forwards or backwards in `pairs`, whose
    classes are four movements and their reverses.
    """
    folder = write_digits(root, labels, num_train, num_val)
    motions = [motion for _, motion in sorted(LABEL_SETS[labels].items())]
    classes = torch.arange(len(motions))
    if labels == "pairs":  # a movement and its reverse are one sign apart
        classes = torch.tensor([sum((*one.travel, one.growth, one.spin)) < 0 for one in motions]).long()
    views = UniformViews(CLIP, _CLIP_SIDE, ViewSpec(num_clips=1, short_side=_CLIP_SIDE))

    def read(file: str) -> Examples:
        table = load_annotations(folder / file)
        read = read_batches(table, views, np.arange(len(table)), num_classes=len(motions), batch_size=64)
        label = classes[torch.cat([target for _, target in read]).argmax(dim=1)]
        return Examples(torch.cat([clip for clip, _ in read]), label, int(classes.max()) + 1, CLIP_CROP)

    return Split(read("train.csv"), read("val.csv"))


def digit_images(side: int) -> Split:
    """Return the digits of the videos as clips of one frame, with a margin of an eighth for random crops."""
    from sklearn.datasets import load_digits

    label = torch.from_numpy(load_digits(return_X_y=True)[1]).long()
    margin = side // 8
    parts, start = [], 0
    for pool in load_digit_pools():
        ink = torch.from_numpy(pool).float()[:, None]
        ink = F.interpolate(ink, (side, side), mode="bilinear", antialias=True) if side != ink.shape[-1] else ink
        clip = F.pad((ink - _MEAN_INK) / _STD_INK, [margin] * 4, value=PAPER)
        clip = clip.expand(-1, 3, -1, -1)[:, :, None].contiguous()
        parts.append(Examples(clip, label[start : start + len(pool)], 10, side))
        start += len(pool)
    return Split(*parts)
