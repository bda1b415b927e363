"""Parameters by name: which of them decay, and whether those of a checkpoint fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mvit_video.types import CheckpointError


def decay_groups(net: nn.Module) -> list[dict[str, Any]]:
    """Parameters that weight decay shrinks, and those it leaves alone: norms and biases.

    Position tables and the class token do decay, as in the published recipes.
    """
    decayed, free = [], []
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            (free if parameter.ndim <= 1 or name.endswith(".bias") else decayed).append(parameter)
    return [{"params": decayed}, {"params": free, "weight_decay": 0.0}]


def check_same_tensors(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Refuses a checkpoint of another model.

    Raises:
        CheckpointError: names or shapes differ.
    """
    unfit = sorted(own.keys() ^ theirs.keys()) + [
        f"{name} {tuple(theirs[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & theirs.keys())
        if own[name].shape != theirs[name].shape
    ]
    if unfit:
        raise CheckpointError(
            f"the checkpoint holds another model than model.net: {len(unfit)} tensors differ, first {unfit[0]}"
        )
