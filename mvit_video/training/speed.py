"""Switches for the speed and the memory of a net, which compute the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mvit_video.types import ConfigError


@dataclass(frozen=True)
class Speed:
    """Speed and memory of a net.

    Attributes:
        compile: backend of `torch.compile`, such as `inductor`; None runs the net as it is written.
        channels_last: clips in the memory order that cuDNN convolves fastest.
        activation_checkpointing: compute blocks again in the backward pass: about a third more time for a fraction of
            the memory.
    """

    compile: str | None = None
    channels_last: bool = False
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.compile is not None and self.compile not in torch.compiler.list_backends(exclude_tags=()):
            known = ", ".join(torch.compiler.list_backends())
            raise ConfigError(f"model.speed.compile must be a backend of torch.compile ({known}), got {self.compile!r}")

    def apply(self, net: nn.Module) -> None:
        """Set up a net in place; the names of its tensors stay.

        Raises:
            ConfigError: the net has no activation checkpointing.
        """
        if self.activation_checkpointing:
            if not hasattr(net, "activation_checkpointing"):
                raise ConfigError(f"model.speed.activation_checkpointing: {type(net).__name__} has no such switch")
            net.activation_checkpointing = True  # type: ignore[assignment]
        if self.compile is not None:
            net.compile(backend=self.compile)

    def order(self, clip: Tensor) -> Tensor:
        """Return the clip in the configured memory order."""
        return clip.contiguous(memory_format=torch.channels_last_3d) if self.channels_last else clip


def count_graphs() -> int:
    """Return how many graphs `torch.compile` made: one for training, one for evaluation, more for further sizes."""
    from torch._dynamo.utils import counters  # slow to import, and needed only if something was compiled

    return counters["stats"]["unique_graphs"]
