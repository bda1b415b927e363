"""Relative positions as extra channels of fused attention against the same term as a mask; one thread, alternating.

The shapes are blocks of MViTv2-S 16x4. Prints CPU milliseconds, median of several, and the ratio to the channels.

    python benchmarks/bench_attention.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from measuring import median_cpu_seconds
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mvit_video.nn import RelativePosition
from mvit_video.nn.cpu import ChunkedAttention
from mvit_video.types import THW

#         block  heads  grid of the queries  grid of the keys
SHAPES = [
    (0, 1, THW(8, 56, 56), THW(8, 7, 7)),
    (1, 2, THW(8, 28, 28), THW(8, 14, 14)),
    (4, 4, THW(8, 14, 14), THW(8, 7, 7)),
]
HEAD_DIM = 96


def as_channels(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend as `PoolingAttention` does in a net tuned for a CPU."""
    return ChunkedAttention()(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))


def as_mask(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend by the definition: add a matrix of position scores."""
    q, by_query = q.tensor_split([HEAD_DIM], dim=-1)
    k, by_key = k.tensor_split([HEAD_DIM], dim=-1)
    mask = by_query.transpose(1, 2) @ (by_key[:, :, 0] * HEAD_DIM**-0.5).mT
    return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask)


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median CPU time, after a warm-up round."""
    work()
    return 1e3 * median_cpu_seconds(work, rounds)


def measure(shape: tuple[int, int, THW, THW], dtype: torch.dtype, training: bool, rounds: int) -> tuple[float, ...]:
    """Return the milliseconds of both ways, and the largest difference of their results."""
    _, heads, thw_q, thw_k = shape
    sizes = (thw_q.volume, thw_k.volume, thw_k.volume)
    q, k, v = (torch.randn(1, 1 + size, heads, HEAD_DIM, dtype=dtype).requires_grad_() for size in sizes)
    rel_pos = RelativePosition(thw_q, thw_k, HEAD_DIM).to(dtype)

    def run(attention: Callable[..., Tensor]) -> Tensor:
        out = attention(*rel_pos(q, k, thw_q, thw_k), v)
        if training:
            out.sum().backward()
        return out

    with torch.set_grad_enabled(training):
        difference = (run(as_channels) - run(as_mask)).abs().max().item()
        channels, mask = milliseconds(lambda: run(as_channels), rounds), milliseconds(lambda: run(as_mask), rounds)
    return channels, mask, difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="medians are over this many rounds")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = Table("block", "precision", "pass", title=f"Position term, torch {torch.__version__}", title_justify="left")
    for column in ("channels ms", "mask ms", "mask / channels", "max difference"):
        table.add_column(column, justify="right")
    for shape, dtype, training in product(SHAPES, (torch.float32, torch.bfloat16), (False, True)):
        channels, mask, difference = measure(shape, dtype, training, rounds)
        name = "forward+backward" if training else "forward"
        figures = (f"{channels:.0f}", f"{mask:.0f}", f"{mask / channels:.2f}", f"{difference:.1e}")
        table.add_row(str(shape[0]), str(dtype)[6:], name, *figures)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
