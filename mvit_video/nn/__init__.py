"""Building blocks of multiscale vision transformers; they need only torch."""

from mvit_video.nn.attention import DotProductAttention, PoolingAttention, ReducedAttention, make_attention
from mvit_video.nn.block import ClassificationHead, DropPath, Mlp, MultiscaleBlock
from mvit_video.nn.cpu import tune_for_cpu, untuned
from mvit_video.nn.embedding import CubeEmbedding
from mvit_video.nn.grid import grid_to_tokens, split_class_token, through_map, tokens_to_grid
from mvit_video.nn.pooling import PoolMode, TokenPool
from mvit_video.nn.position import JointPosition, PositionEncodingGenerator, RelativePosition, SeparablePosition
from mvit_video.nn.pyramid import ConvMlp, PyramidBlock, StageEntry, begin_stage
from mvit_video.nn.spatial_reduction import KVReduction, LinearSpatialReduction, SpatialReduction, Uneven

__all__ = [
    "ClassificationHead",
    "ConvMlp",
    "CubeEmbedding",
    "DotProductAttention",
    "DropPath",
    "JointPosition",
    "KVReduction",
    "LinearSpatialReduction",
    "Mlp",
    "MultiscaleBlock",
    "PoolMode",
    "PoolingAttention",
    "PositionEncodingGenerator",
    "PyramidBlock",
    "ReducedAttention",
    "RelativePosition",
    "SeparablePosition",
    "SpatialReduction",
    "StageEntry",
    "TokenPool",
    "Uneven",
    "begin_stage",
    "grid_to_tokens",
    "make_attention",
    "split_class_token",
    "through_map",
    "tokens_to_grid",
    "tune_for_cpu",
    "untuned",
]
