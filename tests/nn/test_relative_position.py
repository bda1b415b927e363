"""Relative positions against a loop that follows SlowFast's formula pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mvit_video.nn import DotProductAttention, RelativePosition
from mvit_video.nn.position import relative_rows
from mvit_video.types import THW

HEADS, DIM = 2, 4


def row_of_pair(i: int, j: int, num_q: int, num_k: int) -> int:
    """SlowFast's `cal_rel_pos_spatial` for one query and one key, in float32 as it computes."""
    step_q, step_k = np.float32(max(num_k / num_q, 1.0)), np.float32(max(num_q / num_k, 1.0))
    distance = np.float32(np.float32(i) * step_q) - np.float32(np.float32(j) * step_k)
    return int(distance + np.float32((num_k - 1) * max(num_q / num_k, 1.0)))


@pytest.mark.parametrize(("num_q", "num_k"), [(56, 7), (7, 14), (8, 8), (78, 10), (20, 39), (1, 1), (5, 3)])
def test_rows_follow_slowfast_pair_by_pair(num_q: int, num_k: int) -> None:
    num_rows = 2 * max(num_q, num_k) - 1
    table = torch.arange(num_rows, dtype=torch.float32)[:, None]
    found = relative_rows(table, num_q, num_k)[..., 0]
    expected = [[row_of_pair(i, j, num_q, num_k) for j in range(num_k)] for i in range(num_q)]
    assert found.tolist() == expected


def test_a_table_of_another_length_is_resized_linearly() -> None:
    table = torch.linspace(-1, 1, 37)[:, None]
    found = relative_rows(table, 20, 20)
    expected = F.interpolate(table.T[None], 39, mode="linear", align_corners=False)[0, 0]
    torch.testing.assert_close(found[:, :, 0], torch.stack([expected[torch.arange(19, -1, -1) + i] for i in range(20)]))


@pytest.mark.parametrize("has_class_token", [True, False])
@pytest.mark.parametrize(("thw_q", "thw_k"), [(THW(2, 4, 4), THW(2, 2, 2)), (THW(1, 3, 3), THW(1, 3, 3))])
def test_scores_equal_a_loop_over_pairs(thw_q: THW, thw_k: THW, has_class_token: bool) -> None:
    torch.manual_seed(0)
    offset = int(has_class_token)
    sizes = (thw_q.volume, thw_k.volume, thw_k.volume)
    q, k, v = (torch.randn(2, HEADS, offset + size, DIM, dtype=torch.float64) for size in sizes)
    module = RelativePosition(thw_q, thw_k, DIM).double()
    scores = q @ k.mT * DIM**-0.5
    for i, (ti, hi, wi) in enumerate(np.ndindex(*thw_q)):
        for j, (tj, hj, wj) in enumerate(np.ndindex(*thw_k)):
            row = module.h[row_of_pair(hi, hj, thw_q.h, thw_k.h)] + module.w[row_of_pair(wi, wj, thw_q.w, thw_k.w)]
            if module.t is not None:
                row = row + module.t[row_of_pair(ti, tj, thw_q.t, thw_k.t)]
            scores[:, :, offset + i, offset + j] += q[:, :, offset + i] @ row
    expected: Tensor = scores.softmax(-1) @ v
    by_token = q.transpose(1, 2), k.transpose(1, 2)
    wide_q, wide_k = module(*by_token, thw_q, thw_k)
    found = DotProductAttention()(wide_q.transpose(1, 2), wide_k.transpose(1, 2), v)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_gradients_equal_finite_differences_to_second_order() -> None:
    torch.manual_seed(0)
    thw_q, thw_k = THW(2, 2, 3), THW(2, 1, 2)
    module = RelativePosition(thw_q, thw_k, DIM).double()
    q, k = (torch.randn(2, 1 + thw.volume, HEADS, DIM).double().requires_grad_() for thw in (thw_q, thw_k))

    def wide(q: Tensor, *tables: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip("hwt", tables, strict=True))
        return torch.func.functional_call(module, named, (q, k[: len(q)], thw_q, thw_k))

    assert module.t is not None
    inputs = (q, module.h, module.w, module.t)
    assert torch.autograd.gradcheck(wide, inputs)
    one = (q[:1].detach().requires_grad_(), *inputs[1:])  # its cost goes by the square of the batch
    assert torch.autograd.gradgradcheck(lambda *inputs: wide(*inputs)[0], one)


def test_a_single_frame_of_a_video_has_its_table_over_time_and_an_image_none() -> None:
    """In a single frame the term is the same for all keys but the class token's, to which it does not apply."""
    thw_q, thw_k = THW(1, 4, 4), THW(1, 2, 2)
    video, image = RelativePosition(thw_q, thw_k, DIM), RelativePosition(thw_q, thw_k, DIM, temporal=False)
    assert video.t is not None
    assert video.t.shape == (1, DIM)
    assert image.t is None
