"""Threads of a CPU, as many as a net can use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mvit_video.models.net import VideoNet, multiply_adds

_SMALL = 1e9  # multiply-adds of a clip


@contextmanager
def one_thread_if_small(net: VideoNet) -> Iterator[None]:
    """Computes with one thread where a clip takes less than a billion multiply-adds, on a CPU.

    The steps of such nets are over sooner than threads are woken: with two threads on two busy cores the Hessian of the
    demo's net took eight times as long as with one.
    """
    num_threads = torch.get_num_threads()
    if multiply_adds(net) < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
