"""Layers by name."""

import pytest
import torch

from mvit_video.models import mvit
from mvit_video.models.architecture import Patch, Pooling
from mvit_video.models.net import features_at
from mvit_video.types import ConfigError, Layer


def tiny(num_classes: int) -> torch.nn.Module:
    patch, pooling = Patch((1, 8, 8), (1, 8, 8)), Pooling(stride_kv=(1, 1, 1))
    net = mvit(
        num_classes=num_classes, num_frames=2, crop_size=16, depths=(1, 1), embed_dim=8, patch=patch, pooling=pooling
    )
    return net.eval()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ("pooled", (3, 16)),
        ("tokens", (3, 3, 16)),
        ("stage1", (3, 16, 2, 2, 2)),  # the last block of a stage widens for the next
        ("stage2", (3, 16, 2, 1, 1)),
        ("logits", (3, 5)),
    ],
)
def test_each_layer_is_that_of_forward_features(layer: Layer, shape: tuple[int, ...]) -> None:
    net, clip = tiny(5), torch.randn(3, 3, 2, 16, 16)
    found = features_at(net, clip, layer)
    assert found.shape == shape
    features = net.forward_features(clip, stages=True)
    named = {
        "pooled": features.embedding, "tokens": features.tokens, "stage1": features.stages[0],
        "stage2": features.stages[1], "logits": net(clip),
    }  # fmt: skip
    torch.testing.assert_close(found, named[layer], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("stage3", r"^layer stage3: the MViT has 2 stage\(s\)$"),
        ("logits", "^layer logits: the MViT has no head; choose another layer$"),
    ],
)
def test_a_layer_that_is_not_there_is_told(layer: Layer, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        features_at(tiny(0), torch.randn(1, 3, 2, 16, 16), layer)
