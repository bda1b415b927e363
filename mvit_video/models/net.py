"""Common part of all nets: from clips to features, and from features to logits."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mvit_video.models.recipes import Recipe
from mvit_video.nn import ClassificationHead, CubeEmbedding, DotProductAttention
from mvit_video.types import THW, ConfigError, Layer


@dataclass(frozen=True)
class Features:
    """Features of a batch of clips, before the head.

    Attributes:
        embedding: `(B, C)`, what the head classifies: the normalised class token, or a mean of the tokens.
        tokens: `(B, 1 + T*H*W, C)`, all final tokens, normalised, the class token first where there is one.
        thw: final grid `(T, H, W)`.
        stages: map of each stage `(B, C_s, T_s, H_s, W_s)`, as the stage leaves it: normalised in PVTv2, which has a
            norm at the end of each, not normalised elsewhere; empty unless asked for. What follows is computed from it,
            so that gradients reach it; those of the last map are zero where the head reads the class token alone.
    """

    embedding: Tensor
    tokens: Tensor
    thw: THW
    stages: tuple[Tensor, ...] = ()


class VideoNet(nn.Module):
    """A net from clips `(B, 3, T, H, W)` to logits `(B, num_classes)`, which it gives in training and evaluation alike.

    Args:
        num_classes: logits of the head; 0 leaves the head out, and the net returns embeddings.
        num_frames: frames of a clip, which position tables are built for; 1 for an image.
        crop_size: height and width of a clip in pixels, for the same reason.
        dropout: of the embedding before the classifier.

    Attributes:
        patch_embed: the stem.
        blocks: all blocks in order; each maps tokens and their grid to tokens and their grid.
        activation_checkpointing: compute each block again in the backward pass rather than keep what it computed.
        recipe: what built the net; None for a net that no builder function made.
        load_report: `LoadReport` of the checkpoint that `create_model` filled the net with; None without one.
    """

    num_classes: int
    patch_embed: CubeEmbedding
    blocks: nn.ModuleList
    head: nn.Module
    recipe: Recipe | None = None
    load_report: Any = None

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
        raise NotImplementedError

    def forward_features(self, clip: Float[Tensor, "batch 3 *size"], *, stages: bool = False) -> Features:
        """Embedding, final tokens and final grid of each clip, and with `stages` the map of each stage.

        A net for images takes `(B, 3, H, W)` as well.
        """
        raise NotImplementedError

    def forward(self, clip: Float[Tensor, "batch 3 *size"]) -> Float[Tensor, "batch classes"]:
        return self.head(self.forward_features(clip).embedding)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that no recipe decays, beside norms and biases."""
        return {name for name, _ in self.named_parameters() if ".peg." in name}

    def reset_classifier(self, num_classes: int) -> None:
        """Give the net a new, untrained head for so many classes; with 0 of them it is a backbone."""
        self.head = self._new_head(num_classes)
        init_linear_layers(self.head)
        if self.recipe is not None:
            self.recipe = self.recipe.changed(num_classes=num_classes)

    def settled_arguments(self) -> dict[str, Any]:
        """Return arguments of the builder that it takes as None or spread over several, as they came out."""
        return {}

    def check_clip(self, clip: Tensor) -> None:
        """Refuse, with the shape found and the one expected, what the stem cannot tile."""
        channels = self.patch_embed.proj.in_channels
        if clip.ndim != 5 or clip.shape[1] != channels:
            raise ValueError(f"expected clips of shape (B, {channels}, T, H, W), got {tuple(clip.shape)}")
        if min(self.patch_embed.thw(THW(*clip.shape[2:]))) < 1:
            size, cube = tuple(clip.shape[2:]), tuple(self.patch_embed.kernel)
            raise ValueError(f"a clip of (T, H, W) {size} is smaller than one cube of {cube}")

    def _checked(self, clip: Tensor) -> Tensor:
        """The clip with a time axis."""
        if self.num_frames == 1 and clip.ndim == 4:
            clip = clip[:, :, None]
        self.check_clip(clip)
        return clip

    def _run(self, block: nn.Module, x: Tensor, thw: THW) -> tuple[Tensor, THW]:
        if self.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, thw, use_reentrant=False)
        return block(x, thw)

    def _new_head(self, num_classes: int) -> nn.Module:
        self.num_classes = num_classes
        return ClassificationHead(self.embed_dim, num_classes, self._dropout) if num_classes else nn.Identity()


def features_at(net: Any, clip: Tensor, layer: Layer) -> Tensor:
    """Return what a net makes of clips `(B, 3, T, H, W)` at a layer.

    Args:
        layer: the embedding, the final tokens, the map of a stage, or the logits.

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
    """Have the nets that a function makes remember it and all its arguments as their `recipe`."""
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
    """Multiply-adds of one clip of the size that a net is built for, from shapes alone."""
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
    """Relative positions only add to the scores, whatever way of computing them is quicker."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        dim, scores = v.shape[-1], q.new_empty(q.shape[2], k.shape[2])
        return F.scaled_dot_product_attention(q[..., :dim], k[..., :dim], v, scores)


def drop_path_rates(last: float, num_blocks: int) -> list[float]:
    """Stochastic depth of each block: linear from 0 to that of the last."""
    return torch.linspace(0, last, num_blocks, device="cpu").tolist()


def init_linear_layers(net: nn.Module) -> None:
    """Draw the weights of linear layers from a truncated normal distribution; biases are zero."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)


def init_convolutions(net: nn.Module) -> None:
    """Draw the weights of convolutions from a normal distribution by what leaves a channel; biases are zero.

    Source: the published code of PVTv2 and Twins; that of PVT and MViT leaves PyTorch's own.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
