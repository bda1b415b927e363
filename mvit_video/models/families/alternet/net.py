"""AlterNet (arXiv:2202.06709): a pre-activation ResNet whose stages end in attention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mvit_video.models.net import Features, VideoNet, drop_path_rates
from mvit_video.nn.residual import BasicBlock, Bottleneck, WindowBlock
from mvit_video.types import THW, ConfigError

BlockKind = Literal["basic", "bottleneck"]
NUM_HEADS = (3, 6, 12, 24)
_WIDTHS = (64, 128, 256, 512)
_LARGEST_WINDOW = 8
_SMALLEST_CROP_OF_STRIDE_4 = 64  # below it the last maps would have a single cell


class AlterNet(VideoNet):
    """Pre-activation ResNet whose stages end in attention within windows; each frame alone.

    A stage of `depth` blocks with `n` pairs is `depth - 2n` convolution blocks and then `n` times a convolution and an
    attention block. The embedding of a clip is the mean over the cells of all its frames.

    The arguments are those of the builder `alternet`.

    Raises:
        ConfigError: no window tiles the stages.
        ValueError: windows do not tile the maps of a clip.

    Source: equal to the published code given the same weights (tests/models/test_published_logits.py).
    """

    def __init__(
        self,
        depths: Sequence[int],
        num_pairs: Sequence[int],
        *,
        block: BlockKind,
        num_classes: int,
        num_frames: int,
        crop_size: int,
        stem_stride: int | None = None,
        window_size: int | None = None,
        drop_path_rate: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_classes=num_classes, num_frames=num_frames, crop_size=crop_size, dropout=dropout)
        if stem_stride is None:
            stem_stride = 1 if crop_size < _SMALLEST_CROP_OF_STRIDE_4 else 4
        _check(depths, num_pairs, block, stem_stride)
        self.depths, self.num_pairs, self.block_kind = tuple(depths), tuple(num_pairs), block
        self.stem_stride, self.drop_path_rate = stem_stride, drop_path_rate
        self.stem = _stem(stem_stride)
        self.window_size = _fitted_window(crop_size, stem_stride, num_pairs) if window_size is None else window_size
        expansion = 4 if block == "bottleneck" else 1
        rates = drop_path_rates(drop_path_rate, sum(depths))
        self.blocks = nn.ModuleList()
        dim = _WIDTHS[0]
        for stage, width in enumerate(_WIDTHS):
            for place, is_attention in enumerate(alternation(depths[stage], num_pairs[stage])):
                stride = 2 if stage and not place else 1
                dim_out, rate = width * expansion, rates[len(self.blocks)]
                self.blocks.append(
                    WindowBlock(dim, dim_out, dim // expansion, NUM_HEADS[stage], self.window_size, rate)
                    if is_attention
                    else (Bottleneck if block == "bottleneck" else BasicBlock)(dim, dim_out, stride, rate)
                )
                dim = dim_out
        self._stage_ends = {end - 1 for end in accumulate(depths)}
        self.norm = nn.BatchNorm2d(dim)
        self.head = self._new_head(num_classes)

    @property
    def embed_dim(self) -> int:
        return self.norm.num_features

    def settled_arguments(self) -> dict[str, Any]:
        return {"stem_stride": self.stem_stride, "window_size": self.window_size if any(self.num_pairs) else None}

    def check_clip(self, clip: Tensor) -> None:
        if clip.ndim != 5 or clip.shape[1] != 3:
            raise ValueError(f"expected clips of shape (B, 3, T, H, W), got {tuple(clip.shape)}")

    def forward_features(self, clip: Float[Tensor, "batch 3 *size"], *, stages: bool = False) -> Features:
        clip = self._checked(clip)
        num_frames = clip.shape[2]
        x = self.stem(clip.transpose(1, 2).flatten(0, 1))
        maps = []
        for index, block in enumerate(self.blocks):
            if self.activation_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
            if stages and index in self._stage_ends:
                maps.append(x.unflatten(0, (-1, num_frames)).transpose(1, 2))
                x = maps[-1].transpose(1, 2).flatten(0, 1)  # so that later gradients reach the map
        x = self.norm(x).relu()
        thw = THW(num_frames, *x.shape[2:])
        tokens = x.unflatten(0, (-1, num_frames)).permute(0, 1, 3, 4, 2).flatten(1, 3)
        return Features(embedding=tokens.mean(dim=1), tokens=tokens, thw=thw, stages=tuple(maps))


def alternation(depth: int, num_pairs: int) -> list[bool]:
    """Say which blocks of a stage are attention: the last of each pair; pairs end the stage."""
    return [False] * (depth - 2 * num_pairs) + [False, True] * num_pairs


def _check(depths: Sequence[int], num_pairs: Sequence[int], block: str, stem_stride: int) -> None:
    if len(depths) != len(_WIDTHS) or len(num_pairs) != len(_WIDTHS):
        raise ConfigError(f"depths and num_pairs must have four numbers each, got {depths} and {num_pairs}")
    if min(depths) < 1:
        raise ConfigError(f"depths must give every stage a block, got {tuple(depths)}")
    if any(not 0 <= 2 * pairs <= depth for depth, pairs in zip(depths, num_pairs, strict=True)):
        raise ConfigError(f"num_pairs must be at most half of depths {tuple(depths)}, got {tuple(num_pairs)}")
    if block not in ("basic", "bottleneck"):
        raise ConfigError(f"block must be basic or bottleneck, got {block!r}")
    if stem_stride not in (1, 4):
        raise ConfigError(f"stem_stride must be 4 or 1, got {stem_stride}")


def _stem(stride: int) -> nn.Sequential:
    if stride == 1:
        return nn.Sequential(nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False))
    return nn.Sequential(
        nn.Conv2d(3, _WIDTHS[0], 7, 2, padding=3, bias=False), nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
    )


def _fitted_window(crop_size: int, stem_stride: int, num_pairs: Sequence[int]) -> int:
    """Return the largest window that tiles the map of every stage with attention."""
    sides, side = [], crop_size
    for _ in range(stem_stride // 2):
        side = -(-side // 2)
    for pairs in num_pairs:
        sides += [side] if pairs else []
        side = -(-side // 2)
    for window in range(_LARGEST_WINDOW, 1, -1):
        if all(side % window == 0 for side in sides):
            return window
    raise ConfigError(
        f"crop_size={crop_size} gives maps of {sides} cells a side, which no window of 2 to {_LARGEST_WINDOW} cells "
        "tiles; choose a crop_size such as 224 or 256"
    )
