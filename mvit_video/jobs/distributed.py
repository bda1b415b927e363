"""Communication between the processes of a run; a single process is its own peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed

T = TypeVar("T")


def rank_and_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    if _is_distributed():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def gather_objects(share: Any) -> list[Any]:
    """Return the objects of all processes on the first; an empty list on the others."""
    if not _is_distributed():
        return [share]
    rank, size = rank_and_size()
    shares: list[Any] | None = [None] * size if rank == 0 else None
    torch.distributed.gather_object(share, shares)
    return shares or []


def all_gather_objects(share: Any) -> list[Any]:
    """Return the objects of all processes."""
    if not _is_distributed():
        return [share]
    shares: list[Any] = [None] * rank_and_size()[1]
    torch.distributed.all_gather_object(shares, share)
    return shares


def on_first(make: Callable[[], T]) -> T | None:
    """Call `make` on the first process and return its result there, None elsewhere; its error is raised on all."""
    made, error = None, None
    if rank_and_size()[0] == 0:
        try:
            made = make()
        except Exception as raised:  # the others would wait forever
            error = raised
    if (error := from_first(error)) is not None:
        raise error
    return made


def from_first(value: T) -> T:
    """Return the value of the first process on all of them."""
    if not _is_distributed():
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values)
    return values[0]


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
