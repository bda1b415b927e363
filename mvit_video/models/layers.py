"""Features of a layer, by name."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from mvit_video.types import ConfigError

Layer = Literal["pooled", "tokens", "stage1", "stage2", "stage3", "stage4", "logits"]


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
