"""Building blocks of multiscale vision transformers; they need torch alone."""

from mvit_video.nn.attention import PoolingAttention
from mvit_video.nn.block import DropPath, Mlp, MultiscaleBlock
from mvit_video.nn.embedding import CubeEmbedding
from mvit_video.nn.grid import grid_to_tokens, split_class_token, tokens_to_grid
from mvit_video.nn.head import ClassificationHead
from mvit_video.nn.pooling import HeadSharedConv3d, PoolMode, TokenPool
from mvit_video.nn.position import JointPosition, RelativePosition, SeparablePosition

__all__ = [
    "ClassificationHead",
    "CubeEmbedding",
    "DropPath",
    "HeadSharedConv3d",
    "JointPosition",
    "Mlp",
    "MultiscaleBlock",
    "PoolMode",
    "PoolingAttention",
    "RelativePosition",
    "SeparablePosition",
    "TokenPool",
    "grid_to_tokens",
    "split_class_token",
    "tokens_to_grid",
]
