import pytest
import torch
from torch import Tensor

from mvit_video.nn.residual import WindowAttention, WindowBlock


def naive(attention: WindowAttention, x: Tensor) -> Tensor:
    """The definition, query by query and key by key."""
    q, (k, v) = attention.q(x), attention.kv(x).chunk(2, dim=1)
    side, heads = attention.window_size, attention.num_heads
    out = torch.zeros_like(q)
    q, k, v = (part.unflatten(1, (heads, -1)) for part in (q, k, v))
    joined = out.unflatten(1, (heads, -1))
    cells = [(i, j) for i in range(side) for j in range(side)]
    for top in range(0, x.shape[2], side):
        for left in range(0, x.shape[3], side):
            for i, j in cells:
                query = q[..., top + i, left + j]
                scores = [
                    (query * k[..., top + a, left + b]).sum(dim=-1) * query.shape[-1] ** -0.5
                    + attention.rel_pos[a - i + side - 1, b - j + side - 1]
                    for a, b in cells
                ]
                weights = torch.stack(scores, dim=-1).softmax(dim=-1)
                values = torch.stack([v[..., top + a, left + b] for a, b in cells], dim=-2)
                joined[..., top + i, left + j] = (weights[..., None] * values).sum(dim=-2)
    return attention.proj(out)


@torch.no_grad()
def test_equals_its_definition_on_maps_that_are_not_square() -> None:
    torch.manual_seed(0)
    attention = WindowAttention(6, 10, num_heads=3, window_size=3, head_dim=4).double()
    attention.rel_pos.normal_()
    x = torch.randn(2, 6, 6, 9, dtype=torch.float64)
    torch.testing.assert_close(attention(x), naive(attention, x), rtol=0, atol=1e-12)


def test_cells_of_other_windows_do_not_matter() -> None:
    torch.manual_seed(0)
    attention = WindowAttention(4, 4, num_heads=1, window_size=2)
    x = torch.randn(1, 4, 4, 4, requires_grad=True)
    attention(x)[..., :2, :2].sum().backward()
    assert x.grad is not None
    reached = x.grad.abs().sum(dim=(0, 1)) > 0
    assert reached[:2, :2].all()
    assert not reached[2:].any()
    assert not reached[:, 2:].any()


@pytest.mark.parametrize("size", [(7, 14), (14, 10)])
def test_maps_that_windows_do_not_tile_are_refused_with_both_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"windows of 7x7 do not tile a map of {size[0] + 1}x{size[1]}"):
        WindowAttention(4, 4, num_heads=1, window_size=7)(torch.zeros(1, 4, size[0] + 1, size[1]))


def test_a_block_without_its_branch_is_its_shortcut() -> None:
    block = WindowBlock(8, 8, 2, num_heads=1, window_size=2).eval()
    torch.nn.init.zeros_(block.attn.proj.weight)
    torch.nn.init.zeros_(block.attn.proj.bias)  # pyright: ignore[reportArgumentType]
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x), x)
