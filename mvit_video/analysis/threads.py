"""Threads of a CPU, as many as a net can use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mvit_video.analysis.adapter import evaluating

_SMALL = 1e9  # multiply-adds of a clip


@contextmanager
def one_thread_if_small(net: nn.Module, size: tuple[int, int, int]) -> Iterator[None]:
    """Computes with one thread where a clip of a size takes less than a billion multiply-adds, on a CPU.

    The steps of such nets are over sooner than threads are woken: with two threads on two busy cores the Hessian of the
    demo's net took eight times as long as with one.

    Args:
        size: frames, height and width of a clip.
    """
    num_threads = torch.get_num_threads()
    if _multiply_adds(net, size) < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _multiply_adds(net: nn.Module, size: tuple[int, int, int]) -> float:
    clip = torch.zeros(1, 3, *size).to(next(net.parameters()))
    with evaluating(net), torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(clip)
    return counter.get_total_flops() / 2
