"""Device and precision of inference, as a user names them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from mvit_video.types import ConfigError, Precision

_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def choose_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU where there is one.

    Raises:
        ConfigError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device={name} must be auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: torch finds no GPU here; use cpu")
    return device


def mixed_precision(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which a net computes with a precision."""
    kind = _TYPES.get(precision)
    return torch.autocast(device.type, kind) if kind is not None else nullcontext()
