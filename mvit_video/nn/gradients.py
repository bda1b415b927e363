"""Operations with gradients written by hand, because autograd's take more time or memory.

Each equals the plain operation (tests/nn/test_gradients.py, test_relative_position.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mvit_video.nn.grid import split_class_token
from mvit_video.types import THW

_AXES = "hwt"


def is_recording() -> bool:
    """Say whether `torch.compile` or `torch.jit.trace` records; neither sees through an `autograd.Function`."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def widen_queries(q: Float[Tensor, "B Q N D"], rows: Sequence[Tensor], thw: THW) -> Float[Tensor, "B Q N W"]:
    """Return queries with their products with the rows of each axis as more channels; zeros for the class token.

    Args:
        rows: `(queries, keys, D)` along height, width and, where there is a table over time, time.
        thw: grid of the queries.
    """
    return (_widen if is_recording() else _Widen.apply)(thw, q, *rows)


def _widen(thw: THW, q: Tensor, *rows: Tensor) -> Tensor:
    dim = q.shape[-1]
    wide = q.new_empty(*q.shape[:-1], dim + sum(row.shape[1] for row in rows))
    wide[..., :dim] = q
    wide[:, : q.shape[1] - thw.volume, :, dim:] = 0
    patches, wide_patches = _patches(q, thw), _patches(wide, thw)
    for axis, row in zip(_AXES, rows, strict=False):
        wide_patches[..., dim : dim + row.shape[1]] = torch.einsum(f"bthwnc,{axis}kc->bthwnk", patches, row)
        dim += row.shape[1]
    return wide


class _Widen(torch.autograd.Function):
    """`_widen`, which keeps only its result for backward, as attention does too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(thw: THW, q: Tensor, *rows: Tensor) -> Tensor:
        return _widen(thw, q, *rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.thw, _, *rows = inputs
        ctx.save_for_backward(output, *rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wide, *rows = ctx.saved_tensors
        dim = rows[0].shape[-1]
        q, grad_q = _patches(wide[..., :dim], ctx.thw), grads[0][..., :dim].clone()
        grad_terms = _patches(grads[0][..., dim:], ctx.thw).split([row.shape[1] for row in rows], dim=-1)
        grad_rows = []
        for axis, grad_term, row in zip(_AXES, grad_terms, rows, strict=False):
            _patches(grad_q, ctx.thw).add_(torch.einsum(f"bthwnk,{axis}kc->bthwnc", grad_term, row))
            grad_rows.append(torch.einsum(f"bthwnk,bthwnc->{axis}kc", grad_term, q))
        return None, grad_q, *grad_rows


def _patches(tokens: Float[Tensor, "B L N X"], thw: THW) -> Float[Tensor, "B t h w N X"]:
    return split_class_token(tokens, thw)[1].unflatten(1, thw)


def depthwise_conv3d(
    grid: Float[Tensor, "batch dim t h w"], weight: Float[Tensor, "dim 1 kt kh kw"], stride: THW, padding: THW
) -> Float[Tensor, "batch dim t_out h_out w_out"]:
    """Convolve each channel with its own kernel: `F.conv3d` with as many groups as channels.

    Gradients are computed by temporal tap: for volumes oneDNN takes 10 to 50 times as long (benchmarks/bench_model.py).
    """
    return _DepthwiseConv3d.apply(grid, weight, stride, padding)


class _DepthwiseConv3d(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(grid: Tensor, weight: Tensor, stride: THW, padding: THW) -> Tensor:
        return F.conv3d(grid, weight, None, stride, padding, groups=grid.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        grid, weight, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(grid, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grads
        grid, weight = ctx.saved_tensors
        grad_grid, grad_weight = _gradients(grad, grid, weight, ctx.stride, ctx.padding, ctx.needs_input_grad[:2])
        return grad_grid, grad_weight, None, None


def _gradients(
    grad: Tensor, grid: Tensor, weight: Tensor, stride: THW, padding: THW, needed: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the needed gradients of grid and weight: sums of 2-D convolutions' gradients over temporal taps."""
    dtype = grid.dtype
    exact = torch.promote_types(dtype, torch.float32)  # half precision has no quick strided 2-D gradient either
    grad, weight = grad.to(exact), weight.to(exact)
    grad_grid = torch.zeros_like(grid, dtype=exact) if needed[0] else None
    by_tap: list[Tensor] = []
    for tap in range(weight.shape[2]):
        sources, targets = _frames_of_tap(tap, grid.shape[2], grad.shape[2], stride.t, padding.t)
        frames = _frames(grid[:, :, sources]).to(exact)
        frame_grad, tap_grad, _ = torch.ops.aten.convolution_backward(
            _frames(grad[:, :, targets]), frames, weight[:, :, tap], None, stride[1:], padding[1:], (1, 1),
            False, (0, 0), grid.shape[1], [*needed, False],
        )  # fmt: skip
        if grad_grid is not None:
            num_frames = len(range(*sources.indices(grid.shape[2])))
            grad_grid[:, :, sources] += frame_grad.unflatten(0, (len(grid), num_frames)).transpose(1, 2)
        by_tap.append(tap_grad)
    return (
        None if grad_grid is None else grad_grid.to(dtype),
        torch.stack(by_tap, dim=2).to(dtype) if needed[1] else None,
    )


def _frames(grid: Tensor) -> Tensor:
    return grid.transpose(1, 2).flatten(0, 1)


def _frames_of_tap(tap: int, num_in: int, num_out: int, stride: int, padding: int) -> tuple[slice, slice]:
    """Return the frames that a temporal tap reads and writes, without the padding."""
    first = max(0, -((tap - padding) // stride))
    last = min(num_out - 1, (num_in - 1 + padding - tap) // stride)
    start = first * stride + tap - padding
    return slice(start, start + (last - first) * stride + 1, stride), slice(first, last + 1)
