"""Reduction of keys and values before their projection, against reshaping, pooling and plain attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvit_video.nn import (
    CubeEmbedding,
    LinearSpatialReduction,
    PoolingAttention,
    ReducedAttention,
    SpatialReduction,
    TokenPool,
    grid_to_tokens,
    tokens_to_grid,
)
from mvit_video.types import THW

DIM = 8


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def tokens(size: THW, num_class_tokens: int = 0) -> Tensor:
    return torch.randn(2, num_class_tokens + size.volume, DIM, dtype=torch.float64)


@pytest.mark.parametrize("stride", [THW(1, 4, 2), THW(2, 2, 3)])
@torch.no_grad()
def test_the_convolution_is_reshaping_and_a_linear_layer(stride: THW) -> None:
    size = THW(4, 8, 6)
    reduction, x = SpatialReduction(DIM, stride).double(), tokens(size)
    found, reduced = reduction(x, size)
    cubes = tokens_to_grid(x, size)
    for axis, step in zip((2, 3, 4), stride, strict=True):
        cubes = cubes.unfold(axis, step, step)
    cubes = cubes.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(1, 3)
    expected = reduction.norm(F.linear(cubes, reduction.conv.weight.flatten(1), reduction.conv.bias))
    assert reduced == THW(*(n // s for n, s in zip(size, stride, strict=True)))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", [SpatialReduction, LinearSpatialReduction])
@torch.no_grad()
def test_the_class_token_passes_by_as_it_is(kind: type) -> None:
    size = THW(2, 4, 4)
    reduction = (kind(DIM, THW(1, 2, 2)) if kind is SpatialReduction else kind(DIM)).double()
    x = tokens(size, 1)
    found, _ = reduction(x, size)
    assert torch.equal(found[:, 0], x[:, 0])
    torch.testing.assert_close(found[:, 1:], reduction(x[:, 1:], size)[0])


@torch.no_grad()
def test_an_uneven_grid_is_padded_or_cut() -> None:
    size, stride = THW(3, 5, 7), THW(2, 2, 4)
    padded = SpatialReduction(DIM, stride).double()
    cut = SpatialReduction(DIM, stride, "floor").double()
    cut.load_state_dict(padded.state_dict())
    x = tokens(size)
    with_zeros = grid_to_tokens(F.pad(tokens_to_grid(x, size), (0, 1, 0, 1, 0, 1)))[0]
    found, thw = padded(x, size)
    assert thw == THW(2, 3, 2)
    torch.testing.assert_close(found, padded(with_zeros, THW(4, 6, 8))[0])
    found, thw = cut(x, size)
    assert thw == THW(1, 2, 1)
    torch.testing.assert_close(
        found, cut(grid_to_tokens(tokens_to_grid(x, size)[:, :, :2, :4, :4])[0], THW(2, 4, 4))[0]
    )


def test_what_cannot_be_cut_is_named() -> None:
    with pytest.raises(ValueError, match=r"a grid of \(1, 2, 2\) is smaller than one cube of \(1, 4, 4\)"):
        SpatialReduction(DIM, THW(1, 4, 4), "floor")(torch.randn(1, 4, DIM), THW(1, 2, 2))


@torch.no_grad()
def test_on_a_plane_of_its_size_linear_reduction_is_a_layer_on_every_token() -> None:
    size, reduction = THW(3, 7, 7), LinearSpatialReduction(DIM).double()
    x = tokens(size)
    found, thw = reduction(x, size)
    expected = F.gelu(reduction.norm(F.linear(x, reduction.conv.weight.flatten(1), reduction.conv.bias)))
    assert thw == size
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [THW(2, 3, 3), THW(2, 7, 14), THW(1, 10, 9)])
@torch.no_grad()
def test_linear_reduction_has_one_size_of_plane_for_all(size: THW) -> None:
    found, thw = LinearSpatialReduction(DIM).double()(tokens(size), size)
    assert thw == THW(size.t, 7, 7)
    assert found.shape == (2, thw.volume, DIM)


@torch.no_grad()
def test_without_reduction_it_is_multi_head_attention() -> None:
    attention, x = ReducedAttention(DIM, DIM, 2).double(), tokens(THW(2, 3, 3), 1)
    peer = nn.MultiheadAttention(DIM, 2, batch_first=True).double()
    peer.in_proj_weight.copy_(torch.cat([attention.q.weight, attention.kv.weight]))
    peer.in_proj_bias.copy_(torch.cat([attention.q.bias, attention.kv.bias]))
    peer.out_proj.load_state_dict(attention.proj.state_dict())
    found, thw = attention(x, THW(2, 3, 3))
    torch.testing.assert_close(found, peer(x, x, x, need_weights=False)[0])
    assert thw == THW(2, 3, 3)


@pytest.mark.parametrize("residual", [False, True])
@torch.no_grad()
def test_it_is_pooling_attention_where_nothing_but_queries_is_pooled(residual: bool) -> None:
    def pool() -> TokenPool:
        return TokenPool("conv", 4, 2, THW(3, 3, 3), THW(1, 2, 2))

    size = THW(2, 4, 6)
    reduced = ReducedAttention(DIM, DIM, 2, pool_q=pool(), residual_pooling=residual).double()
    pooling = PoolingAttention(DIM, DIM, 2, pool_q=pool(), residual_pooling=residual).double()
    state = reduced.state_dict()
    for part in ("weight", "bias"):
        state[f"qkv.{part}"] = torch.cat([state.pop(f"q.{part}"), state.pop(f"kv.{part}")])
    pooling.load_state_dict(state)
    x = tokens(size, 1)
    (found, thw), (expected, thw_expected) = reduced(x, size), pooling(x, size)
    torch.testing.assert_close(found, expected)
    assert thw == thw_expected == THW(2, 2, 3)


@pytest.mark.parametrize(
    ("size", "floor", "pad"),
    [
        (THW(4, 16, 16), THW(2, 4, 4), THW(2, 4, 4)),
        (THW(5, 18, 17), THW(2, 4, 4), THW(3, 5, 5)),
        (THW(1, 3, 4), THW(0, 0, 1), THW(1, 1, 1)),
    ],
)
@torch.no_grad()
def test_patches_that_do_not_tile_a_clip_are_cut_or_padded(size: THW, floor: THW, pad: THW) -> None:
    clip = torch.randn(1, 3, *size)
    cutting, padding = (CubeEmbedding(DIM, THW(2, 4, 4), THW(2, 4, 4), uneven=uneven) for uneven in ("floor", "pad"))
    assert (cutting.thw(size), padding.thw(size)) == (floor, pad)
    assert padding(clip)[1] == pad
    if min(floor):
        assert cutting(clip)[1] == floor


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="dim_out=8 and num_heads=3"):
        ReducedAttention(8, 8, 3)
