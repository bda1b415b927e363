"""Blocks of PVT, Twins-PCPVT and PVTv2, whose stages begin by joining patches."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.attention import PoolingAttention, ReducedAttention
from mvit_video.nn.block import Mlp, MultiscaleBlock
from mvit_video.nn.depthwise import DepthwiseConv3d
from mvit_video.nn.embedding import CubeEmbedding
from mvit_video.nn.grid import grid_to_tokens, join_class_token, tokens_to_grid
from mvit_video.nn.position import JointPosition, PositionEncodingGenerator, SeparablePosition
from mvit_video.types import THW


def begin_stage(
    grid: Float[Tensor, "batch channels *size"],
    patch_embed: CubeEmbedding,
    class_token: Float[Tensor, "1 1 dim"] | None,
    position: SeparablePosition | JointPosition | None,
) -> tuple[Float[Tensor, "batch tokens dim"], THW]:
    """Embed a clip, or the grid of the stage before, put a class token first and add the positions."""
    x, thw = patch_embed(grid)
    x = join_class_token(None if class_token is None else class_token.expand(x.shape[0], -1, -1), x)
    return (x if position is None else x + position(thw)), thw


class StageEntry(nn.Module):
    """Beginning of a stage after the first: see `begin_stage`.

    Args:
        patch_embed: joins patches of the stage before.
        class_token: put before the patches; None for none.
        position: tables for the grid of this stage; None for none.
    """

    def __init__(
        self,
        patch_embed: CubeEmbedding,
        class_token: nn.Parameter | None,
        position: SeparablePosition | JointPosition | None,
    ) -> None:
        super().__init__()
        self.patch_embed, self.class_token, self.position = patch_embed, class_token, position

    def forward(
        self, x: Float[Tensor, "batch cells dim_before"], thw: THW
    ) -> tuple[Float[Tensor, "batch tokens dim"], THW]:
        return begin_stage(tokens_to_grid(x, thw), self.patch_embed, self.class_token, self.position)


class ConvMlp(nn.Module):
    """Two linear layers with a depthwise convolution over the grid and a GELU between them; no class token.

    Args:
        kernel: of the convolution; `(1, 3, 3)` in nets of images.
        relu: put a ReLU before the convolution, as PVTv2 does where its attention is linear.

    Source: PVTv2 (arXiv:2106.13797) section 3.3; agrees with timm (tests/models/families/pvt/test_pvt_parity.py).
    """

    def __init__(self, dim: int, hidden: int, kernel: THW, *, relu: bool = False) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.relu = nn.ReLU() if relu else None
        self.conv = DepthwiseConv3d(hidden, kernel)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "batch cells dim"], thw: THW) -> Float[Tensor, "batch cells dim"]:
        x = self.fc1(x)
        if self.relu is not None:
            x = self.relu(x)
        x, _ = grid_to_tokens(self.conv(tokens_to_grid(x, thw)))
        return self.fc2(self.act(x))


class PyramidBlock(MultiscaleBlock):
    """Pre-norm transformer block of one width, whose attention keeps the grid; the first of a stage enters the stage.

    Args:
        attention: from `dim` to `dim` channels.
        mlp: of PVT, or with the convolution of PVTv2.
        entry: of the stage; None in the first stage and in all blocks but the first.
        stage_norm: normalise the output of the block, as PVTv2 does at the end of a stage.
        peg: position encodings added to the output; None for none.
        drop_path_rate: probability of dropping each residual branch of a sample.

    Source: PVT (arXiv:2102.12122) section 3.2, PVTv2 (arXiv:2106.13797) section 3; agrees with timm
    (tests/models/families/pvt/test_pvt_parity.py).
    """

    def __init__(
        self,
        attention: PoolingAttention | ReducedAttention,
        dim: int,
        mlp: Mlp | ConvMlp,
        *,
        entry: StageEntry | None = None,
        stage_norm: bool = False,
        peg: PositionEncodingGenerator | None = None,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(attention, dim, dim, dim, mlp=mlp, peg=peg, drop_path_rate=drop_path_rate)
        self.entry = entry
        self.stage_norm = nn.LayerNorm(dim, eps=1e-6) if stage_norm else None

    def forward(
        self, x: Float[Tensor, "batch tokens dim_before"], thw: THW
    ) -> tuple[Float[Tensor, "batch tokens_out dim"], THW]:
        if self.entry is not None:
            x, thw = self.entry(x, thw)
        x, thw = super().forward(x, thw)
        return (x if self.stage_norm is None else self.stage_norm(x)), thw

    def second_half(self, x: Float[Tensor, "*tokens dim"], thw: THW) -> Float[Tensor, "*tokens dim"]:
        """Add the MLP and its skip to the output of attention; the MLP of PVTv2 convolves over the grid."""
        if isinstance(self.mlp, ConvMlp):
            return x + self.drop_path(self.mlp(self.norm2(x), thw))
        return super().second_half(x, thw)
