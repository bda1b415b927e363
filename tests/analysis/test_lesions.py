"""Nets without one of their branches."""

import pytest
import torch
from torch import nn

from mvit_video.analysis.batches import score
from mvit_video.analysis.lesions import draw_lesion, lesion
from mvit_video.models import MViT
from tests.fixtures.nets import MakeBatches


def test_a_branch_that_adds_nothing_is_not_missed(tiny_v2: MViT, make_batches: MakeBatches) -> None:
    with torch.no_grad():
        for layer in (tiny_v2.blocks[1].attn.proj, tiny_v2.blocks[2].mlp.fc2):
            layer.weight.zero_()
            layer.bias.zero_()
    table = lesion(tiny_v2, make_batches(3, 2))
    rows = {row["name"]: row for row in table.to_pylist()}
    for name in ("blocks.1.attn", "blocks.2.mlp"):
        assert rows[name]["loss_change"] == rows[name]["top1_change"] == 0
    assert min(abs(rows[name]["loss_change"]) for name in ("blocks.0.attn", "blocks.0.mlp", "blocks.2.attn")) > 1e-3
    assert len(draw_lesion(table).axes) == 2


def test_without_a_branch_the_skip_alone_is_left(tiny_cnn: nn.Module, make_batches: MakeBatches) -> None:
    batches = make_batches(4)
    rows = {row["name"]: row for row in lesion(tiny_cnn, batches).to_pylist()}
    with torch.no_grad():
        tiny_cnn.eval()
        first, second = tiny_cnn.layers
        x = second(tiny_cnn.stem(batches[0].clip))
        logits = tiny_cnn.head(x.mean(dim=(2, 3, 4)))
    expected = nn.functional.cross_entropy(logits, batches[0].target)
    assert rows["layers.0"]["loss"] == pytest.approx(float(expected), rel=1e-12)
    assert rows[""]["loss"] == score(tiny_cnn, batches).loss
    assert not first.bn2._forward_hooks
