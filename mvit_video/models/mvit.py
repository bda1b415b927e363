"""MViT: Multiscale Vision Transformers (arXiv:2104.11227), the net and its variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.models.architecture import BlockSpec, Pooling, block_table
from mvit_video.nn import (
    ClassificationHead,
    CubeEmbedding,
    JointPosition,
    MultiscaleBlock,
    PoolingAttention,
    SeparablePosition,
    TokenPool,
)
from mvit_video.nn.pooling import PoolMode
from mvit_video.types import THW

PositionKind = Literal["separable", "joint", "none"]


@dataclass(frozen=True)
class Features:
    """What a net knows of a batch of clips before its head.

    Attributes:
        embedding: `(B, C)`, the normalised class token.
        tokens: `(B, 1 + T*H*W, C)`, all final tokens, normalised, the class token first.
        thw: final grid `(T, H, W)`.
    """

    embedding: Tensor
    tokens: Tensor
    thw: THW


class MViT(nn.Module):
    """Multiscale Vision Transformer: attention over a grid that coarsens from stage to stage while channels grow.

    Args:
        blocks: table of blocks, as `block_table` makes it.
        num_classes: logits of the head.
        num_frames: frames of a clip, which the position tables are built for.
        crop_size: height and width of a clip in pixels, likewise.
        patch_kernel: size of an embedded cube in frames and pixels.
        patch_stride: distance from one cube to the next.
        position: absolute position embedding: a table over space and one over time, one for both, or none.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        dropout: of the embedding before the classifier.

    Raises:
        ValueError: the forward pass is given something other than `(B, 3, T, H, W)`, or less than one cube.

    Source: MViT (arXiv:2104.11227); equal to torchvision's `mvit_v1_b` and pytorchvideo's `mvit_base_16x4` given the
    same weights (tests/models/test_parity.py).
    """

    def __init__(
        self,
        blocks: Sequence[BlockSpec],
        *,
        num_classes: int,
        num_frames: int,
        crop_size: int,
        patch_kernel: tuple[int, int, int] = (3, 7, 7),
        patch_stride: tuple[int, int, int] = (2, 4, 4),
        pool_mode: PoolMode = "conv",
        position: PositionKind = "separable",
        drop_path_rate: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.num_frames, self.crop_size = num_classes, num_frames, crop_size
        dim, dim_out = blocks[0].dim, blocks[-1].dim_out
        self.patch_embed = CubeEmbedding(dim, THW(*patch_kernel), THW(*patch_stride))
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        thw = self.patch_embed.thw(THW(num_frames, crop_size, crop_size))
        self.position = _position(position, thw, dim)
        rates = torch.linspace(0, drop_path_rate, len(blocks), device="cpu").tolist()
        self.blocks = nn.ModuleList(_block(spec, pool_mode, rate) for spec, rate in zip(blocks, rates, strict=True))
        self.norm = nn.LayerNorm(dim_out, eps=1e-6)
        self.head = ClassificationHead(dim_out, num_classes, dropout)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.class_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def check_clip(self, clip: Tensor) -> None:
        """Refuse, with the shape found and the one expected, what the stem cannot tile."""
        channels = self.patch_embed.proj.in_channels
        if clip.ndim != 5 or clip.shape[1] != channels:
            raise ValueError(f"expected clips of shape (B, {channels}, T, H, W), got {tuple(clip.shape)}")
        if min(self.patch_embed.thw(THW(*clip.shape[2:]))) < 1:
            size, cube = tuple(clip.shape[2:]), tuple(self.patch_embed.kernel)
            raise ValueError(f"a clip of (T, H, W) {size} is smaller than one cube of {cube}")

    def forward_features(self, clip: Float[Tensor, "batch 3 t h w"]) -> Features:
        """Embedding, final tokens and final grid of each clip."""
        self.check_clip(clip)
        patches, thw = self.patch_embed(clip)
        x = torch.cat([self.class_token.expand(len(patches), -1, -1), patches], dim=1)
        if self.position is not None:
            x = x + self.position(thw)
        for block in self.blocks:
            x, thw = block(x, thw)
        x = self.norm(x)
        return Features(embedding=x[:, 0], tokens=x, thw=thw)

    def forward(self, clip: Float[Tensor, "batch 3 t h w"]) -> Float[Tensor, "batch classes"]:
        return self.head(self.forward_features(clip).embedding)


def _position(kind: PositionKind, thw: THW, dim: int) -> nn.Module | None:
    match kind:
        case "separable":
            return SeparablePosition(thw, dim)
        case "joint":
            return JointPosition(thw, dim)
        case "none":
            return None


def _block(spec: BlockSpec, mode: PoolMode, drop_path_rate: float) -> MultiscaleBlock:
    head_dim = spec.dim // spec.num_heads

    def pool(kernel: THW | None, stride: THW) -> TokenPool | None:
        return TokenPool(mode, head_dim, spec.num_heads, kernel, stride) if kernel else None

    attention = PoolingAttention(
        spec.dim,
        spec.num_heads,
        pool_q=pool(spec.kernel_q, spec.stride_q),
        pool_k=pool(spec.kernel_kv, spec.stride_kv),
        pool_v=pool(spec.kernel_kv, spec.stride_kv),
    )
    skip = None
    if spec.stride_q.volume > 1:
        kernel = THW(*(s + 1 if s > 1 else 1 for s in spec.stride_q))
        skip = TokenPool("max", head_dim, spec.num_heads, kernel, spec.stride_q)
    return MultiscaleBlock(attention, spec.dim, spec.dim_out, pool_skip=skip, drop_path_rate=drop_path_rate)


def mvit(
    *,
    num_classes: int = 400,
    num_frames: int = 16,
    crop_size: int = 224,
    depths: tuple[int, ...] = (1, 2, 11, 2),
    embed_dim: int = 96,
    num_heads: int = 1,
    patch_kernel: tuple[int, int, int] = (3, 7, 7),
    patch_stride: tuple[int, int, int] = (2, 4, 4),
    pooling: Pooling = Pooling(),
    position: PositionKind = "separable",
    drop_path_rate: float = 0.2,
    dropout: float = 0.5,
) -> MViT:
    """Any MViT; as it stands, MViT-B for 16 frames. The named builders below differ only in numbers.

    Args:
        depths: blocks in each stage.
        embed_dim: channels of the first stage, doubled by each further one.
        num_heads: heads of the first stage, doubled likewise.
        patch_kernel: size of an embedded cube in frames and pixels.
        patch_stride: distance from one cube to the next.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        dropout: of the embedding before the classifier.

    Source: MViT (arXiv:2104.11227) table 3; parameters and FLOPs in tests/models/test_published_tables.py.
    """
    return MViT(
        block_table(depths, embed_dim, num_heads, pooling),
        num_classes=num_classes,
        num_frames=num_frames,
        crop_size=crop_size,
        patch_kernel=patch_kernel,
        patch_stride=patch_stride,
        pool_mode=pooling.mode,
        position=position,
        drop_path_rate=drop_path_rate,
        dropout=dropout,
    )


def mvit_b_16x4(**overrides: Any) -> MViT:
    """MViT-B, 16x4: Kinetics-400 78.4 top1 with 5 clips x 1 crop (published)."""
    return mvit(**overrides)


def mvit_b_32x3(*, num_frames: int = 32, **overrides: Any) -> MViT:
    """MViT-B, 32x3: Kinetics-400 80.2 top1 with 5 clips x 1 crop (published); 16 blocks, as in the paper."""
    return mvit(num_frames=num_frames, **overrides)


def mvit_b_64x3(*, num_frames: int = 64, **overrides: Any) -> MViT:
    """MViT-B, 64x3: Kinetics-400 81.2 top1 with 3 clips x 3 crops (published), fine-tuned from 32x3."""
    return mvit(num_frames=num_frames, **overrides)


def mvit_b24_32x3(
    *,
    num_frames: int = 32,
    depths: tuple[int, ...] = (2, 3, 16, 3),
    pooling: Pooling = Pooling(kernel=None),
    drop_path_rate: float = 0.3,
    **overrides: Any,
) -> MViT:
    """MViT-B-24, 32x3: Kinetics-600 83.8 top1 with 5 clips x 1 crop (published); kernels of stride + 1."""
    return mvit(num_frames=num_frames, depths=depths, pooling=pooling, drop_path_rate=drop_path_rate, **overrides)


def mvit_s_16x4(
    *,
    depths: tuple[int, ...] = (3, 7, 6),
    embed_dim: int = 128,
    patch_kernel: tuple[int, int, int] = (3, 8, 8),
    patch_stride: tuple[int, int, int] = (2, 8, 8),
    pooling: Pooling = Pooling(stride_kv=(1, 4, 4)),
    **overrides: Any,
) -> MViT:
    """MViT-S, 16x4: Kinetics-400 76.0 top1 with 5 clips x 1 crop (published); there are no published weights."""
    return mvit(
        depths=depths,
        embed_dim=embed_dim,
        patch_kernel=patch_kernel,
        patch_stride=patch_stride,
        pooling=pooling,
        **overrides,
    )
