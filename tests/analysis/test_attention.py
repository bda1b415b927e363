"""Attention seen and restricted from outside."""

import numpy as np
import pytest
import torch
from torch import nn

import mvit_video as mv
from mvit_video.analysis.attention import Attention, NoSuchAttention, key_grid, watching
from mvit_video.analysis.attention_reach import (
    LocalitySettings,
    distance,
    draw_distance,
    draw_locality,
    locality,
    window_mask,
)
from mvit_video.analysis.batches import score
from mvit_video.analysis.layers import summary_of
from mvit_video.checkpoints import create_model
from mvit_video.models import MViT
from mvit_video.types import THW, ConfigError
from tests.fixtures.nets import MakeBatches


@pytest.mark.parametrize("name", ["tiny_v1", "tiny_v2"])
def test_a_change_that_allows_everything_changes_nothing(
    name: str, request: pytest.FixtureRequest, make_batches: MakeBatches
) -> None:
    net: MViT = request.getfixturevalue(name)
    (batch,) = make_batches(2)
    seen: list[Attention] = []

    def allow(call: Attention) -> torch.Tensor:
        seen.append(call)
        return torch.ones(call.query.shape[2], call.key.shape[2], dtype=torch.bool)

    with watching(net, batch.clip, allow) as forward:
        found = forward(batch.clip)
    with torch.no_grad():
        torch.testing.assert_close(found, net.eval()(batch.clip), rtol=1e-10, atol=1e-10)
    assert not found.requires_grad
    assert [(call.thw_q, call.thw_k) for call in seen] == [
        (THW(4, 4, 4), THW(4, 2, 2)), (THW(4, 2, 2), THW(4, 4, 4)), (THW(4, 2, 2), THW(4, 2, 2)),
    ]  # fmt: skip
    assert [call.name for call in seen] == [f"blocks.{i}.attn" for i in range(3)]


@pytest.mark.parametrize("name", ["mvit_b_16x4", "mvitv2_s_16x4"])
def test_grids_of_keys_are_those_of_the_published_nets(name: str) -> None:
    with torch.device("meta"):
        net = create_model(name)
    thw = THW(8, 56, 56)
    for block in net.blocks:
        pool = block.attn.pool_k
        with torch.device("meta"):
            keys = (
                thw
                if pool is None
                else pool(torch.empty(1, thw.volume + 1, pool.num_heads * pool.norm.normalized_shape[0]), thw)[1]
            )
        assert key_grid(thw, keys.volume + 1, 1) == keys
        if block.pool_skip is not None:
            thw = THW(thw.t, thw.h // 2, thw.w // 2)


def test_keys_that_are_no_grid_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"11 keys cannot be pooled from a grid of \(2, 4, 4\)"):
        key_grid(THW(2, 4, 4), 12, 1)


def test_a_window_of_one_cell_is_the_cell_itself() -> None:
    thw = THW(3, 4, 5)
    assert torch.equal(window_mask(thw, thw, (1, 1, 1)), torch.eye(thw.volume, dtype=torch.bool))
    assert window_mask(thw, thw, (None, None, None)).all()
    assert window_mask(thw, thw, (5, 7, 9)).all()


def test_a_window_goes_as_far_as_its_definition() -> None:
    thw, window = THW(3, 4, 5), (3, None, 3)
    mask = window_mask(thw, thw, window).view(*thw, *thw)
    for q in np.ndindex(*thw):
        for k in np.ndindex(*thw):
            assert bool(mask[q + k]) == (abs(q[0] - k[0]) <= 1 and abs(q[2] - k[2]) <= 1)


def test_a_coarse_key_is_within_the_window_of_every_query_that_it_holds() -> None:
    mask = window_mask(THW(1, 1, 8), THW(1, 1, 2), (None, None, 1))
    assert mask.tolist() == [[True, False]] * 4 + [[False, True]] * 4


def test_a_window_over_everything_is_no_window_and_a_small_one_is(tiny_v2: MViT, make_batches: MakeBatches) -> None:
    batches = make_batches(3, 1)
    table = locality(tiny_v2, batches, LocalitySettings((1, 7, 9)))
    rows = {(row["axis"], row["window"]): row for row in table.to_pylist()}
    whole = score(tiny_v2, batches)
    for axis in ("time", "space", "both"):
        assert rows[axis, 7]["share"] == 1
        assert rows[axis, 7]["loss"] == pytest.approx(whole.loss, rel=1e-9)
        assert abs(rows[axis, 1]["loss"] - whole.loss) > 1e-6
        assert (axis, 9) not in rows
    assert summary_of(table) == pytest.approx(whole._asdict())
    assert len(draw_locality(table).axes) == 2


def test_uniform_attention_looks_as_far_as_cells_are_apart(tiny_v1: MViT, make_batches: MakeBatches) -> None:
    with torch.no_grad():
        for block in tiny_v1.blocks:
            dim = block.attn.qkv.out_features // 3
            block.attn.qkv.weight[:dim] = 0  # queries
            block.attn.qkv.bias[:dim] = 0
            if block.attn.pool_q is not None:
                block.attn.pool_q.norm.bias.zero_()
    table = distance(tiny_v1, make_batches(2, 1))
    for axis in ("space", "time"):
        np.testing.assert_allclose(table[axis].to_numpy(), table[f"{axis}_uniform"].to_numpy(), rtol=1e-9)
    # four frames: distances 0, 1, 2, 3 quarters with shares 4, 6, 4, 2 of 16
    assert table["time_uniform"].to_pylist() == pytest.approx([(6 * 1 + 4 * 2 + 2 * 3) / 16 / 4] * table.num_rows)
    assert table["head"].to_pylist() == [0, 0, 1, 0, 1]
    assert len(draw_distance(table).axes) == 2


def test_a_net_without_attention_is_refused(tiny_cnn: nn.Module, make_batches: MakeBatches) -> None:
    with pytest.raises(NoSuchAttention, match="TinyCnn: no attention found"):
        distance(tiny_cnn, make_batches(2))


def test_attention_within_windows_is_refused(make_batches: MakeBatches) -> None:
    net = mv.create_model("alternet_18", num_classes=3, num_frames=4, crop_size=16, stem_stride=1, window_size=2)
    with pytest.raises(NoSuchAttention, match=r"blocks\.3\.attn: attends within windows of 4 cells"):
        distance(net.double(), make_batches(1))
