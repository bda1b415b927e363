"""Net of PVT (arXiv:2102.12122), PVTv2 (arXiv:2106.13797) and Twins-PCPVT (arXiv:2104.13840)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.models.architecture import KVReduction, Patch, check_reduction, reduction_kernel
from mvit_video.models.net import Features, VideoNet, drop_path_rates, init_convolutions, init_linear_layers
from mvit_video.models.position import Position, joined, kinds_of, peg, peg_blocks, table
from mvit_video.nn import (
    ConvMlp,
    CubeEmbedding,
    Mlp,
    PyramidBlock,
    RelativePosition,
    StageEntry,
    Uneven,
    begin_stage,
    make_attention,
    split_class_token,
    through_map,
)
from mvit_video.types import THW, ConfigError

_MERGED = THW(1, 2, 2)  # cells that become one where a stage begins
Stride = tuple[int, int, int]


@dataclass(frozen=True)
class Pyramid:
    """Stages of a pyramid, with one value per stage.

    Attributes:
        dims: channels.
        num_heads: heads of attention.
        strides_kv: cells that become one key and value; PVT's R is `(1, R, R)`.
        mlp_ratios: hidden channels of the MLP over those of the stage.
        kv_reduction: reduction of keys and values, see `Pooling`; pools have kernels of stride + 1.
        uneven: where patches or `sra` do not tile the grid: `pad` adds zeros, `floor` ignores the rest, as in the
            published code.
    """

    dims: tuple[int, ...] = (64, 128, 320, 512)
    num_heads: tuple[int, ...] = (1, 2, 5, 8)
    strides_kv: tuple[Stride, ...] = ((1, 8, 8), (1, 4, 4), (1, 2, 2), (1, 1, 1))
    mlp_ratios: tuple[int, ...] = (8, 8, 4, 4)
    kv_reduction: KVReduction = "sra"
    uneven: Uneven = "pad"

    def __post_init__(self) -> None:
        check_reduction("pyramid.kv_reduction", self.kv_reduction)
        if self.uneven not in ("pad", "floor"):
            raise ConfigError(f"pyramid.uneven={self.uneven}, expected pad or floor")
        for key in ("num_heads", "strides_kv", "mlp_ratios"):
            if len(getattr(self, key)) != len(self.dims):
                raise ConfigError(
                    f"pyramid.{key} must have one for each of {len(self.dims)} dims, got {getattr(self, key)}"
                )
        if any(min(stride) < 1 for stride in self.strides_kv):
            raise ConfigError(f"pyramid.strides_kv must be at least 1, got {self.strides_kv}")
        for dim, heads in zip(self.dims, self.num_heads, strict=True):
            if min(dim, heads) < 1 or dim % heads:
                raise ConfigError(f"pyramid.dims must be multiples of pyramid.num_heads, got {dim} and {heads}")


class PVT(VideoNet):
    """Pyramid Vision Transformer: attention over the tokens of all frames, with far fewer keys than queries.

    Each stage begins by joining 1x2x2 tokens to one.

    Args:
        depths: blocks in each stage.
        pyramid: what else differs from stage to stage.
        patch: cubes of the stem.
        position: one or more kinds of position encoding, see `kinds_of`; each stage has its own table.
        convolutional: PVTv2: overlapping patches, a convolution in every MLP, and a norm after each stage.

    The others are those of the builder `pvt`.

    Source: agrees with timm's PVTv2 and Twins-PCPVT (tests/models/families/pvt/test_pvt_parity.py).
    """

    def __init__(
        self,
        depths: Sequence[int],
        pyramid: Pyramid,
        *,
        num_classes: int,
        num_frames: int,
        crop_size: int,
        patch: Patch,
        position: Position,
        class_token: bool = True,
        convolutional: bool = False,
        drop_path_rate: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_classes=num_classes, num_frames=num_frames, crop_size=crop_size, dropout=dropout)
        if len(depths) != len(pyramid.dims) or min(depths) < 1:
            raise ConfigError(f"depths must give each of {len(pyramid.dims)} stages a block, got {tuple(depths)}")
        if convolutional and class_token:
            raise ConfigError("class_token must be false in a net with convolutions in its MLPs")
        self.depths, self.pyramid, self.patch = tuple(depths), pyramid, patch
        self.position_kinds, self.convolutional = kinds_of(position), convolutional
        self.class_token: nn.Parameter | None = None
        starts = list(accumulate(depths, initial=0))
        self._stage_ends = [start - 1 for start in starts[1:]]
        with_peg = peg_blocks(self.position_kinds, starts[:-1])
        rates = drop_path_rates(drop_path_rate, sum(depths))
        self.blocks = nn.ModuleList()
        thw = THW(num_frames, crop_size, crop_size)
        for stage, dim in enumerate(pyramid.dims):
            patch_embed = self._patch_embed(stage)
            thw = patch_embed.thw(thw)
            token = None
            if class_token and stage == len(pyramid.dims) - 1:
                token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, dim), std=0.02))
            tables = table(self.position_kinds, thw, dim, class_token=token is not None, resize="bilinear")
            if stage == 0:
                self.patch_embed, self.class_token, self.position = patch_embed, token, tables
            for index in range(*starts[stage : stage + 2]):
                block = self._block(stage, thw, rates[index], ends_stage=index + 1 in starts)
                if stage and index in starts:
                    block.entry = StageEntry(patch_embed, token, tables)
                if index in with_peg:
                    block.peg = peg(dim, temporal=num_frames > 1)
                self.blocks.append(block)
        self.norm = nn.LayerNorm(pyramid.dims[-1], eps=1e-6)
        self.head = self._new_head(num_classes)
        init_linear_layers(self)
        if convolutional or with_peg:
            init_convolutions(self)

    def settled_arguments(self) -> dict[str, Any]:
        return {"pyramid": self.pyramid, "kv_reduction": None, "position": joined(self.position_kinds)}

    def _patch_embed(self, stage: int) -> CubeEmbedding:
        pyramid = self.pyramid
        if stage == 0:
            kernel, stride, channels = THW(*self.patch.kernel), THW(*self.patch.stride), 3
        else:
            kernel, stride, channels = THW(1, 3, 3) if self.convolutional else _MERGED, _MERGED, pyramid.dims[stage - 1]
        return CubeEmbedding(pyramid.dims[stage], kernel, stride, channels, uneven=pyramid.uneven, norm=True)

    def _block(self, stage: int, thw: THW, drop_path_rate: float, *, ends_stage: bool) -> PyramidBlock:
        pyramid, is_video = self.pyramid, self.num_frames > 1
        dim, num_heads, stride = pyramid.dims[stage], pyramid.num_heads[stage], THW(*pyramid.strides_kv[stage])
        rel_pos = None
        if "relative" in self.position_kinds:
            reduced = THW(*(max(n // s, 1) for n, s in zip(thw, stride, strict=True)))
            rel_pos = RelativePosition(thw, reduced, dim // num_heads, temporal=is_video)
        attend = make_attention(
            pyramid.kv_reduction,
            dim,
            dim,
            num_heads,
            stride_kv=stride,
            kernel_kv=reduction_kernel(pyramid.kv_reduction, stride),
            rel_pos=rel_pos,
            uneven=pyramid.uneven,
        )
        hidden = dim * pyramid.mlp_ratios[stage]
        if self.convolutional:
            kernel = THW(3 if is_video else 1, 3, 3)
            mlp = ConvMlp(dim, hidden, kernel, relu=pyramid.kv_reduction == "linear_sra")
        else:
            mlp = Mlp(dim, hidden, dim)
        is_last = stage == len(pyramid.dims) - 1  # whose norm is the net's
        stage_norm = self.convolutional and ends_stage and not is_last
        return PyramidBlock(attend, dim, mlp, stage_norm=stage_norm, drop_path_rate=drop_path_rate)

    def no_weight_decay(self) -> set[str]:
        """Return PEGs and the class token, as in the published recipe; position tables decay."""
        tokens = {name for name, _ in self.named_parameters() if name.rpartition("entry.")[2] == "class_token"}
        return super().no_weight_decay() | tokens

    def forward_features(self, clip: Float[Tensor, "batch 3 *size"], *, stages: bool = False) -> Features:
        x, thw = begin_stage(self._checked(clip), self.patch_embed, self.class_token, self.position)
        x, thw, maps = self._run_blocks(x, thw, stages)
        x = self.norm(x)
        if stages and self.convolutional:
            x, maps[-1] = through_map(x, thw)
        class_token, _ = split_class_token(x, thw)
        embedding = x.mean(dim=1) if class_token is None else class_token[:, 0]
        return Features(embedding=embedding, tokens=x, thw=thw, stages=tuple(maps))
