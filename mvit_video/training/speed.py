"""Switches that change how fast and in how much memory a net runs, not what it computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mvit_video.types import ConfigError


@dataclass(frozen=True)
class Speed:
    """How a net runs.

    Attributes:
        compile: backend of `torch.compile`, such as `inductor`; None runs the net as it is written.
        channels_last: clips in the order of memory in which cuDNN convolves them fastest.
        activation_checkpointing: blocks are computed again in the backward pass, in about a third more time for a
            fraction of the memory.
    """

    compile: str | None = None
    channels_last: bool = False
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.compile is not None and self.compile not in torch.compiler.list_backends(exclude_tags=()):
            known = ", ".join(torch.compiler.list_backends())
            raise ConfigError(f"model.speed.compile must be a backend of torch.compile ({known}), got {self.compile!r}")

    def apply(self, net: nn.Module) -> None:
        """Sets a net up in place; names of its tensors stay.

        Raises:
            ConfigError: it cannot be computed again in the backward pass.
        """
        if self.activation_checkpointing:
            if not hasattr(net, "activation_checkpointing"):
                raise ConfigError(f"model.speed.activation_checkpointing: {type(net).__name__} has no such switch")
            net.activation_checkpointing = True  # type: ignore[assignment]
        if self.compile is not None:
            net.compile(backend=self.compile)

    def order(self, clip: Tensor) -> Tensor:
        """The clip in the order of memory asked for."""
        return clip.contiguous(memory_format=torch.channels_last_3d) if self.channels_last else clip


def count_graphs() -> int:
    """Graphs that `torch.compile` made in this process: one for training, one for evaluation, more for each size."""
    from torch._dynamo.utils import counters  # slow to import, and of no use where nothing was compiled

    return counters["stats"]["unique_graphs"]
