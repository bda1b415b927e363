"""The processes of a run, and what they tell each other; one that is alone hears itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed

T = TypeVar("T")


def rank_and_size() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    if _is_distributed():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def gather_objects(share: Any) -> list[Any]:
    """What each process gave, on the first of them; nothing on the others."""
    if not _is_distributed():
        return [share]
    rank, size = rank_and_size()
    shares: list[Any] | None = [None] * size if rank == 0 else None
    torch.distributed.gather_object(share, shares)
    return shares or []


def all_gather_objects(share: Any) -> list[Any]:
    """What each process gave."""
    if not _is_distributed():
        return [share]
    shares: list[Any] = [None] * rank_and_size()[1]
    torch.distributed.all_gather_object(shares, share)
    return shares


def on_first(make: Callable[[], T]) -> T | None:
    """What `make` returns on the first process; None on the others. What it raises is raised on all."""
    made, error = None, None
    if rank_and_size()[0] == 0:
        try:
            made = make()
        except Exception as raised:  # the others would wait for ever
            error = raised
    if (error := from_first(error)) is not None:
        raise error
    return made


def from_first(value: T) -> T:
    """The value of the first process, on all of them."""
    if not _is_distributed():
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values)
    return values[0]


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
