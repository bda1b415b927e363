"""Variances against their closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.analysis.adapter import iter_features
from mvit_video.analysis.batches import Batch
from mvit_video.analysis.feature_maps import draw_variance, map_variances, variance
from mvit_video.models import MViT
from tests.fixtures.nets import MakeBatches


@given(st.tuples(*[st.integers(1, 5)] * 5), st.integers(0, 100))
def test_the_whole_is_what_lies_within_frames_and_between_them(size: tuple[int, ...], seed: int) -> None:
    maps = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = map_variances(maps)
    assert found.total == pytest.approx(found.within_frames + found.between_frames, abs=1e-12)
    assert found.total == pytest.approx(float(maps.numpy().var(axis=(2, 3, 4)).mean()), abs=1e-12)


def test_space_and_time_are_the_unbiased_ones() -> None:
    maps = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    found = map_variances(maps)
    assert found.space == pytest.approx(float(maps.flatten(3).var(dim=3).mean()), rel=1e-6)
    assert found.time == pytest.approx(float(maps.var(dim=2).mean()), rel=1e-6)
    assert np.isnan(map_variances(maps[:, :, :1]).time)


def test_a_box_blur_leaves_a_quarter_of_the_variance_of_noise() -> None:
    maps = torch.randn(2, 64, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    blurred = (maps + maps.roll(1, 3) + maps.roll(1, 4) + maps.roll((1, 1), (3, 4))) / 4
    assert map_variances(blurred).space / map_variances(maps).space == pytest.approx(1 / 4, abs=0.01)


def test_uniform_attention_is_a_mean_whose_branch_does_not_vary(tiny_v1: MViT, make_batches: MakeBatches) -> None:
    attention = tiny_v1.blocks[2].attn
    with torch.no_grad():
        dim = attention.qkv.out_features // 3
        attention.qkv.weight[:dim] = 0  # queries
        attention.qkv.bias[:dim] = 0
    (batch,) = make_batches(2)
    maps = {feature.name: feature.map for feature in iter_features(tiny_v1, batch.clip)}
    branch = map_variances(maps["blocks.2.attn"] - maps["blocks.1.mlp"])
    assert branch.total < 1e-24
    assert map_variances(maps["blocks.2.mlp"] - maps["blocks.2.attn"]).total > 1e-3


def test_a_study_does_not_depend_on_the_batches(tiny_v2: MViT, make_batches: MakeBatches) -> None:
    (whole,) = make_batches(4)
    parts = [Batch(whole.clip[:1], whole.target[:1]), Batch(whole.clip[1:], whole.target[1:])]
    table, by_parts = variance(tiny_v2, [whole]), variance(tiny_v2, parts)
    np.testing.assert_allclose(by_parts["space"].to_numpy(), table["space"].to_numpy(), rtol=1e-9)
    assert table["depth"].to_pylist() == [i / 6 for i in range(7)]
    assert len(draw_variance(table).axes) == 2
