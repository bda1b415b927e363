"""Pooling attention against a naive loop over heads, cells and taps; and the laws of its parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mvit_video.nn import DropPath, PoolingAttention, TokenPool, grid_to_tokens, tokens_to_grid
from mvit_video.nn.pooling import PoolMode
from mvit_video.types import THW

THW_IN, HEADS, HEAD_DIM = THW(3, 5, 6), 2, 3


def tokens(dim: int = HEADS * HEAD_DIM, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 1 + THW_IN.volume, dim, generator=generator, dtype=torch.float64)


def pool(mode: PoolMode, kernel: THW, stride: THW) -> TokenPool:
    module = TokenPool(mode, HEAD_DIM, HEADS, kernel, stride).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return module


def naive_pool(module: TokenPool, mode: PoolMode, x: Tensor, kernel: THW, stride: THW) -> Tensor:
    """One sample, one head, one cell, one tap at a time; cells in t, h, w order."""
    out_size = [(n + 2 * (k // 2) - k) // s + 1 for n, k, s in zip(THW_IN, kernel, stride, strict=True)]
    samples = []
    for sample in x:
        rows = [sample[0]]
        for cell in torch.cartesian_prod(*(torch.arange(n) for n in out_size)):
            taps, weights = [], []
            for tap in torch.cartesian_prod(*(torch.arange(k) for k in kernel)):
                at = [int(c) * s + int(i) - k // 2 for c, s, i, k in zip(cell, stride, tap, kernel, strict=True)]
                if all(0 <= a < n for a, n in zip(at, THW_IN, strict=True)):
                    taps.append(sample[1 + (at[0] * THW_IN.h + at[1]) * THW_IN.w + at[2]])
                    if mode == "conv":
                        weights.append(module.pool.weight[:, 0, tap[0], tap[1], tap[2]].repeat(HEADS))
            stacked = torch.stack(taps)
            match mode:
                case "conv":
                    rows.append((stacked * torch.stack(weights)).sum(0))
                case "max":
                    rows.append(stacked.amax(0))
                case "avg":
                    rows.append(stacked.sum(0) / kernel.volume)  # padding counts
        samples.append(torch.stack(rows))
    pooled = torch.stack(samples)
    if mode != "conv":
        return pooled
    heads = pooled.unflatten(-1, (HEADS, HEAD_DIM))
    normed = (heads - heads.mean(-1, keepdim=True)) / (heads.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    return (normed * module.norm.weight + module.norm.bias).flatten(2)


@pytest.mark.parametrize("mode", ["conv", "max", "avg"])
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [
        (THW(3, 3, 3), THW(1, 2, 2)),
        (THW(3, 3, 3), THW(1, 1, 1)),
        (THW(1, 5, 5), THW(1, 4, 4)),
        (THW(3, 3, 3), THW(2, 2, 2)),
    ],
)
def test_pool_equals_a_naive_loop(mode: PoolMode, kernel: THW, stride: THW) -> None:
    module, x = pool(mode, kernel, stride), tokens()
    found, thw = module(x, THW_IN)
    expected = naive_pool(module, mode, x, kernel, stride)
    assert found.shape[1] == 1 + thw.volume
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_class_token_passes_by_the_pool() -> None:
    x = tokens()
    found, _ = pool("max", THW(1, 3, 3), THW(1, 2, 2))(x, THW_IN)
    assert torch.equal(found[:, 0], x[:, 0])


def test_attention_equals_a_naive_softmax_over_heads() -> None:
    dim = HEADS * HEAD_DIM
    pools = {f"pool_{name}": pool("conv", THW(3, 3, 3), THW(1, 2, 2)) for name in "qkv"}
    attention, x = PoolingAttention(dim, dim, HEADS, **pools).double(), tokens()
    q, k, v = (p(part, THW_IN)[0] for p, part in zip(pools.values(), attention.qkv(x).chunk(3, -1), strict=True))
    heads = []
    for head in range(HEADS):
        at = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
        scores = q[..., at] @ k[..., at].mT / HEAD_DIM**0.5
        heads.append(scores.softmax(-1) @ v[..., at])
    expected = attention.proj(torch.cat(heads, -1))
    found, thw = attention(x, THW_IN)
    assert thw == (3, 3, 3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_heads_must_divide_channels() -> None:
    with pytest.raises(ValueError, match="dim_out=7 and num_heads=2"):
        PoolingAttention(4, 7, 2)


def test_grid_is_a_view_of_its_tokens_and_back() -> None:
    x = tokens()[:, 1:]
    grid = tokens_to_grid(x, THW_IN)
    assert grid[1, 2, 2, 3, 4] == x[1, (2 * THW_IN.h + 3) * THW_IN.w + 4, 2]
    back, thw = grid_to_tokens(grid)
    assert back.data_ptr() == grid.data_ptr() == x.data_ptr()
    assert (thw, torch.equal(back, x)) == (THW_IN, True)


def test_drop_path_keeps_the_mean_and_drops_whole_samples() -> None:
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(20_000, 3)
    dropped = drop.train()(x)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert torch.equal(dropped[:, 0], dropped[:, 2])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_drop_path_rate_is_a_probability_below_one(rate: float) -> None:
    with pytest.raises(ValueError, match=str(rate)):
        DropPath(rate)
