"""Which parameters weight decay shrinks."""

from __future__ import annotations

from typing import Any

from torch import nn


def decay_groups(net: nn.Module) -> list[dict[str, Any]]:
    """Parameters that weight decay shrinks, and those it leaves alone: norms and biases.

    Position tables and the class token do decay, as in the published recipes.
    """
    decayed, free = [], []
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            (free if parameter.ndim <= 1 or name.endswith(".bias") else decayed).append(parameter)
    return [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
