"""The net of MViT (arXiv:2104.11227), MViTv2 (arXiv:2112.01526) and CPVT (arXiv:2102.10882)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.models.architecture import BlockSpec, Patch, Pooling, pool_kernel
from mvit_video.models.net import Features, VideoNet, drop_path_rates, init_linear_layers
from mvit_video.models.position import Position, joined, kinds_of, peg, peg_blocks, table
from mvit_video.nn import (
    CubeEmbedding,
    MultiscaleBlock,
    RelativePosition,
    TokenPool,
    begin_stage,
    make_attention,
    split_class_token,
)
from mvit_video.types import THW, ConfigError

HeadPool = Literal["cls", "mean_of_patches", "gap"]


class MViT(VideoNet):
    """Multiscale Vision Transformer: from stage to stage the grid coarsens and channels grow.

    Args:
        blocks: table of blocks, as `block_table` makes it.
        head_pool: input of the head: the normalised class token (`cls`), the mean of the normalised patch tokens
            (`gap`), or the norm of the mean of the patch tokens (`mean_of_patches`, SlowFast's USE_MEAN_POOLING); None
            is `cls` with a class token, else `gap`.

    The others are those of the builder `mvit`.

    Raises:
        ConfigError: `head_pool` is unknown, or needs a class token that the net does not have.

    Source: MViT (arXiv:2104.11227), MViTv2 (arXiv:2112.01526); equal to torchvision and pytorchvideo given the same
    weights (tests/models/families/mvit/test_parity.py).
    """

    def __init__(
        self,
        blocks: Sequence[BlockSpec],
        *,
        num_classes: int,
        num_frames: int,
        crop_size: int,
        patch: Patch,
        pooling: Pooling,
        position: Position,
        class_token: bool = True,
        head_pool: HeadPool | None = None,
        drop_path_rate: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_classes=num_classes, num_frames=num_frames, crop_size=crop_size, dropout=dropout)
        dim, dim_out, is_video = blocks[0].dim, blocks[-1].dim_out, num_frames > 1
        self.pooling, self.position_kinds = pooling, kinds_of(position)
        self.head_pool = _checked_head_pool(head_pool, class_token)
        self.patch_embed = CubeEmbedding(dim, THW(*patch.kernel), THW(*patch.stride))
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim)) if class_token else None
        thw = self.patch_embed.thw(THW(num_frames, crop_size, crop_size))
        self.position = table(self.position_kinds, thw, dim, class_token=class_token)
        starts = [i for i, spec in enumerate(blocks) if i == 0 or spec.stride_q.volume > 1]
        with_peg = peg_blocks(self.position_kinds, starts)
        self.blocks = nn.ModuleList()
        for index, (spec, rate) in enumerate(zip(blocks, drop_path_rates(drop_path_rate, len(blocks)), strict=True)):
            relative_to = thw if "relative" in self.position_kinds else None
            block = _block(spec, pooling, relative_to, rate, temporal=is_video)
            if index in with_peg:
                block.peg = peg(spec.dim_out, temporal=is_video)
            self.blocks.append(block)
            thw = _coarsen(thw, spec.stride_q)
        self._stage_ends = {start - 1 for start in starts[1:]} | {len(blocks) - 1}
        self.norm = nn.LayerNorm(dim_out, eps=1e-6)
        self.head = self._new_head(num_classes)
        if self.class_token is not None:
            nn.init.trunc_normal_(self.class_token, std=0.02)
        init_linear_layers(self)

    def settled_arguments(self) -> dict[str, Any]:
        return {
            "pooling": self.pooling,
            "kv_reduction": None,
            "position": joined(self.position_kinds),
            "head_pool": self.head_pool,
        }

    def forward_features(self, clip: Float[Tensor, "batch 3 *size"], *, stages: bool = False) -> Features:
        x, thw = begin_stage(self._checked(clip), self.patch_embed, self.class_token, self.position)
        x, thw, maps = self._run_blocks(x, thw, stages)
        tokens = self.norm(x)
        return Features(embedding=self._embedding(x, tokens, thw), tokens=tokens, thw=thw, stages=tuple(maps))

    def _embedding(self, x: Tensor, tokens: Tensor, thw: THW) -> Tensor:
        """Return the input of the head, from the final tokens before and after the norm."""
        if self.head_pool == "cls":
            return tokens[:, 0]
        if self.head_pool == "gap":
            return split_class_token(tokens, thw)[1].mean(dim=1)
        return self.norm(split_class_token(x, thw)[1].mean(dim=1))


def _checked_head_pool(head_pool: HeadPool | None, class_token: bool) -> HeadPool:
    if head_pool is None:
        return "cls" if class_token else "gap"
    if head_pool not in get_args(HeadPool):
        raise ConfigError(f"head_pool must be one of {', '.join(get_args(HeadPool))}, got {head_pool!r}")
    if head_pool == "cls" and not class_token:
        raise ConfigError("head_pool cls needs a class token; set class_token to true or head_pool to gap")
    return head_pool


def _coarsen(thw: THW, stride: THW) -> THW:
    """Return the grid by which the reference sizes its tables: rounded down, although padded pooling rounds up."""
    return THW(*(n // s for n, s in zip(thw, stride, strict=True)))


def _block(
    spec: BlockSpec, pooling: Pooling, relative_to: THW | None, drop_path_rate: float, *, temporal: bool
) -> MultiscaleBlock:
    head_dim = spec.dim_attention // spec.num_heads

    def pool(kernel: THW | None, stride: THW) -> TokenPool | None:
        if kernel is None:
            return None
        return TokenPool(pooling.mode, head_dim, spec.num_heads, kernel, stride, pooling.norm_eps)

    rel_pos = None
    if relative_to is not None:
        rel_pos = RelativePosition(
            _coarsen(relative_to, spec.stride_q), _coarsen(relative_to, spec.stride_kv), head_dim, temporal=temporal
        )
    attend = make_attention(
        pooling.reduction,
        spec.dim,
        spec.dim_attention,
        spec.num_heads,
        pool_q=pool(spec.kernel_q, spec.stride_q),
        stride_kv=spec.stride_kv,
        kernel_kv=spec.kernel_kv,
        rel_pos=rel_pos,
        residual_pooling=pooling.residual,
        norm_eps=pooling.norm_eps,
    )
    skip = None
    if kernel := pool_kernel(spec.stride_q, None, at_stride_1=False):
        skip = TokenPool("max", head_dim, spec.num_heads, kernel, spec.stride_q)
    return MultiscaleBlock(
        attend, spec.dim, spec.dim_attention, spec.dim_out, pool_skip=skip, drop_path_rate=drop_path_rate
    )
