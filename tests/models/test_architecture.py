"""The derived table of blocks against literal published tables."""

from __future__ import annotations

from mvit_video.models import Pooling, block_table
from mvit_video.models.architecture import pool_kernel
from mvit_video.types import THW

# MViT-B 16x4: SlowFast's MVIT_B_16x4_CONV, as built and printed by it.
CHANNELS = [(96, 192), (192, 192), (192, 384), *[(384, 384)] * 10, (384, 768), *[(768, 768)] * 2]
HEADS = [1, 2, 2, *[4] * 11, 8, 8]
STRIDE_Q = [(1, 2, 2) if block in (1, 3, 14) else (1, 1, 1) for block in range(16)]
STRIDE_KV = [(1, 8, 8), *[(1, 4, 4)] * 2, *[(1, 2, 2)] * 11, *[(1, 1, 1)] * 2]


def test_mvit_b_equals_the_published_table() -> None:
    table = block_table((1, 2, 11, 2), 96, 1, Pooling())
    assert [(block.dim, block.dim_out) for block in table] == CHANNELS
    assert [block.num_heads for block in table] == HEADS
    assert [block.stride_q for block in table] == STRIDE_Q
    assert [block.stride_kv for block in table] == STRIDE_KV
    assert [block.kernel_q for block in table] == [(3, 3, 3) if stride != (1, 1, 1) else None for stride in STRIDE_Q]
    assert [block.kernel_kv for block in table] == [(3, 3, 3)] * 16


def test_mvit_b_24_has_kernels_one_larger_than_strides_and_none_in_the_last_stage() -> None:
    table = block_table((2, 3, 16, 3), 96, 1, Pooling(kernel=None))
    kernels = [(1, 9, 9)] * 2 + [(1, 5, 5)] * 3 + [(1, 3, 3)] * 16 + [None] * 3
    assert [block.kernel_kv for block in table] == kernels
    assert [index for index, block in enumerate(table) if block.kernel_q == (1, 3, 3)] == [2, 5, 21]
    assert [index for index, block in enumerate(table) if block.dim != block.dim_out] == [1, 4, 20]


def test_mvit_s_widens_and_pools_at_its_two_stage_starts() -> None:
    table = block_table((3, 7, 6), 128, 1, Pooling(stride_kv=(1, 4, 4)))
    assert [block.dim for block in table] == [128] * 3 + [256] * 7 + [512] * 6
    assert [block.stride_kv.h for block in table] == [4] * 3 + [2] * 7 + [1] * 6


def test_fixed_kv_stride_is_the_same_in_every_block() -> None:
    table = block_table((1, 2, 11, 2), 96, 1, Pooling(stride_kv=(2, 4, 4), adaptive_kv_stride=False))
    assert {block.stride_kv for block in table} == {THW(2, 4, 4)}


def test_without_kv_stride_keys_and_values_are_not_pooled() -> None:
    assert all(block.kernel_kv is None for block in block_table((1, 2), 96, 1, Pooling(stride_kv=None)))


def test_pool_kernel() -> None:
    assert pool_kernel(THW(1, 8, 8), None, at_stride_1=True) == (1, 9, 9)
    assert pool_kernel(THW(1, 1, 1), None, at_stride_1=True) is None
    assert pool_kernel(THW(1, 1, 1), (3, 3, 3), at_stride_1=True) == (3, 3, 3)
    assert pool_kernel(THW(1, 1, 1), (3, 3, 3), at_stride_1=False) is None
    assert pool_kernel(THW(1, 1, 1), (1, 1, 1), at_stride_1=True) is None
