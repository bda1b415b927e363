"""Base class of all nets, features at a layer, builders that remember their arguments, and multiply-adds."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mvit_video.models.recipes import Recipe
from mvit_video.nn import ClassificationHead, CubeEmbedding, DotProductAttention, through_map
from mvit_video.types import THW, ConfigError, Layer


@dataclass(frozen=True)
class Features:
    """Features of a batch of clips, before the head.

    Attributes:
        embedding: `(B, C)`, input of the head: the normalised class token, or a mean of the tokens.
        tokens: `(B, 1 + T*H*W, C)`, all final tokens, normalised; the class token, if there is one, comes first.
        thw: final grid `(T, H, W)`.
        stages: output of each stage `(B, C_s, T_s, H_s, W_s)`, normalised in PVTv2 only; empty unless requested. Later
            values are computed from it, so gradients reach it; they are zero for the last map where the head reads only
            the class token.
    """

    embedding: Tensor
    tokens: Tensor
    thw: THW
    stages: tuple[Tensor, ...] = ()


class VideoNet(nn.Module):
    """Net from clips `(B, 3, T, H, W)` to logits `(B, num_classes)`, in training and evaluation alike.

    Args:
        num_classes: logits of the head; 0 for no head: the net then returns embeddings.
        num_frames: frames of a clip that position tables are built for; 1 for an image.
        crop_size: height and width in pixels that position tables are built for.
        dropout: of the embedding before the classifier.

    Attributes:
        patch_embed: the stem.
        blocks: all blocks in order; each maps tokens and their grid to tokens and their grid.
        activation_checkpointing: compute each block again in the backward pass instead of keeping its activations.
        recipe: builder and arguments; None for a net that no builder function made.
        load_report: `LoadReport` of the checkpoint that `create_model` loaded; None without one.
    """

    num_classes: int
    patch_embed: CubeEmbedding
    blocks: nn.ModuleList
    head: nn.Module
    recipe: Recipe | None = None
    load_report: Any = None
    _stage_ends: Collection[int] = ()

    def __init__(self, *, num_classes: int, num_frames: int, crop_size: int, dropout: float) -> None:
        super().__init__()
        for key, value, least in (
            ("num_classes", num_classes, 0),
            ("num_frames", num_frames, 1),
            ("crop_size", crop_size, 1),
        ):
            if value < least:
                raise ConfigError(f"{key} must be at least {least}, got {value}")
        self.num_frames, self.crop_size = num_frames, crop_size
        self.activation_checkpointing = False
        self._dropout = dropout

    @property
    def embed_dim(self) -> int:
        """Channels of the embedding."""
        (channels,) = cast(nn.LayerNorm, self.norm).normalized_shape
        return channels

    def forward_features(self, clip: Float[Tensor, "batch 3 *size"], *, stages: bool = False) -> Features:
        """Return embedding, final tokens and final grid of each clip, and with `stages` the map of each stage.

        A net for images takes `(B, 3, H, W)` too.
        """
        raise NotImplementedError

    def forward(self, clip: Float[Tensor, "batch 3 *size"]) -> Float[Tensor, "batch classes"]:
        return self.head(self.forward_features(clip).embedding)

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, other than norms and biases."""
        return {name for name, _ in self.named_parameters() if ".peg." in name}

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by an untrained one for this number of classes; 0 for no head."""
        self.head = self._new_head(num_classes)
        init_linear_layers(self.head)
        if self.recipe is not None:
            self.recipe = self.recipe.changed(num_classes=num_classes)

    def settled_arguments(self) -> dict[str, Any]:
        """Return the values of builder arguments that were None or that others changed."""
        return {}

    def check_clip(self, clip: Tensor) -> None:
        """Refuse a clip that the stem cannot take.

        Raises:
            ValueError: it has another shape than `(B, 3, T, H, W)`, or is smaller than one cube.
        """
        channels = self.patch_embed.proj.in_channels
        if clip.ndim != 5 or clip.shape[1] != channels:
            raise ValueError(f"expected clips of shape (B, {channels}, T, H, W), got {tuple(clip.shape)}")
        if min(self.patch_embed.thw(THW(*clip.shape[2:]))) < 1:
            size, cube = tuple(clip.shape[2:]), tuple(self.patch_embed.kernel)
            raise ValueError(f"a clip of (T, H, W) {size} is smaller than one cube of {cube}")

    def _checked(self, clip: Tensor) -> Tensor:
        """Return the clip with a time axis."""
        if self.num_frames == 1 and clip.ndim == 4:
            clip = clip[:, :, None]
        self.check_clip(clip)
        return clip

    def _run(self, block: nn.Module, x: Tensor, thw: THW) -> tuple[Tensor, THW]:
        if self.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, thw, use_reentrant=False)
        return block(x, thw)

    def _run_blocks(self, x: Tensor, thw: THW, stages: bool) -> tuple[Tensor, THW, list[Tensor]]:
        """Return tokens and grid behind the last block, and with `stages` the map of each stage."""
        maps = []
        for index, block in enumerate(self.blocks):
            x, thw = self._run(block, x, thw)
            if stages and index in self._stage_ends:
                x, stage = through_map(x, thw)
                maps.append(stage)
        return x, thw, maps

    def _new_head(self, num_classes: int) -> nn.Module:
        self.num_classes = num_classes
        return ClassificationHead(self.embed_dim, num_classes, self._dropout) if num_classes else nn.Identity()


def features_at(net: Any, clip: Tensor, layer: Layer) -> Tensor:
    """Return the output of a layer of a net for clips `(B, 3, T, H, W)`.

    Args:
        layer: `pooled` is the embedding.

    Raises:
        ConfigError: the net has no such layer.
    """
    if layer == "logits":
        if not net.num_classes:
            raise ConfigError(f"layer logits: the {type(net).__name__} has no head; choose another layer")
        return net(clip)
    features = net.forward_features(clip, stages=layer.startswith("stage"))
    if layer == "pooled":
        return features.embedding
    if layer == "tokens":
        return features.tokens
    number = int(layer.removeprefix("stage"))
    if number > len(features.stages):
        raise ConfigError(f"layer {layer}: the {type(net).__name__} has {len(features.stages)} stage(s)")
    return features.stages[number - 1]


_P = ParamSpec("_P")
_Net = TypeVar("_Net", bound=VideoNet)


def builder(make: Callable[_P, _Net]) -> Callable[_P, _Net]:
    """Make a builder function: its nets keep it and all its arguments as their `recipe`."""
    signature = inspect.signature(make)

    @functools.wraps(make)
    def build(*args: _P.args, **kwargs: _P.kwargs) -> _Net:
        net = make(*args, **kwargs)
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        arguments = dict(given.arguments)
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments |= arguments.pop(parameter.name)
        net.recipe = Recipe(build, arguments | net.settled_arguments())
        return net

    return build


def multiply_adds(net: VideoNet) -> float:
    """Return the multiply-adds of one clip of the net's size, from shapes alone."""
    from torch.utils.flop_counter import FlopCounterMode  # as slow to import as all models

    shapes = copy.deepcopy(net).to("meta", torch.float32).eval()
    for module in shapes.modules():
        if isinstance(module, DotProductAttention):
            module.__class__ = _AttentionByDefinition
    clip = torch.empty(1, 3, net.num_frames, net.crop_size, net.crop_size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes(clip)
    return counter.get_total_flops() / 2


class _AttentionByDefinition(DotProductAttention):
    """Attention whose relative positions are a bias of the scores, for the count of operations."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        dim, scores = v.shape[-1], q.new_empty(q.shape[2], k.shape[2])
        return F.scaled_dot_product_attention(q[..., :dim], k[..., :dim], v, scores)


def drop_path_rates(last: float, num_blocks: int) -> list[float]:
    """Return the stochastic depth of each block: linear from 0 to that of the last."""
    return torch.linspace(0, last, num_blocks, device="cpu").tolist()


def init_linear_layers(net: nn.Module) -> None:
    """Draw the weights of linear layers from a truncated normal distribution; biases are zero."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)


def init_convolutions(net: nn.Module) -> None:
    """Draw the weights of convolutions Kaiming-normal (fan-out); biases are zero.

    Source: the published code of PVTv2 and Twins; PVT and MViT keep PyTorch's default.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
