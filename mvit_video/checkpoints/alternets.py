"""The architecture of an AlterNet, inferred from the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mvit_video.checkpoints.architecture import Architecture

_STEM = "stem.0.weight"
_CROPS = {4: 224, 1: 32}  # published, by the stride of the stem, of nets without windows


def is_alternet(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the stem is that of a ResNet."""
    return _STEM in tensors


def infer_alternet(
    tensors: Mapping[str, Tensor], num_frames: int | None = None, crop_size: int | None = None
) -> Architecture:
    """The architecture whose tensors these are, if those of any AlterNet; they are to be compared with it.

    Args:
        num_frames: frames of a clip, which tensors do not tell; one if not given.
        crop_size: height and width in pixels, likewise; if not given, those whose last map is one window, as published.
    """
    num_blocks = sum(f"blocks.{n}.norm1.weight" in tensors for n in range(len(tensors)))
    starts = [n for n in range(num_blocks) if n == 0 or f"blocks.{n}.shortcut.weight" in tensors]
    stages = [range(start, end) for start, end in zip(starts, [*starts[1:], num_blocks], strict=True)]
    attention = [n for n in range(num_blocks) if f"blocks.{n}.attn.rel_pos" in tensors]
    stem_stride = 4 if tensors[_STEM].shape[-1] > 3 else 1
    arguments: dict[str, Any] = {
        "num_classes": len(tensors.get("head.projection.bias", ())),
        "num_frames": num_frames or 1,
        "crop_size": crop_size or _CROPS[stem_stride],
        "depths": tuple(len(stage) for stage in stages),
        "num_pairs": tuple(sum(n in stage for n in attention) for stage in stages),
        "block": "bottleneck" if "blocks.0.conv3.weight" in tensors else "basic",
        "stem_stride": stem_stride,
    }
    if attention:
        window = (tensors[f"blocks.{attention[0]}.attn.rel_pos"].shape[0] + 1) // 2
        arguments |= {"window_size": window, "crop_size": crop_size or 8 * stem_stride * window}
    return Architecture(
        "alternet",
        arguments,
        ["frames and size of clips leave no trace; taken as one frame whose last map is one window"],
    )
