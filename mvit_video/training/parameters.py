"""Parameters by name: learning rate, weight decay, and comparison with those of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from mvit_video.runs.folder import CONFIG, run_with
from mvit_video.types import CheckpointError


def decay_groups(net: nn.Module, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Return groups of parameters for an optimiser, each with its `lr_scale`; norms and biases have no weight decay.

    Position tables and the class token do decay, as in the published recipes of MViT. A net's `no_weight_decay()` names
    further exceptions of its recipe.

    Args:
        layer_decay: learning rate of a block divided by that of the block above it. The head, and what lies between it
            and the blocks, has the full rate; the stem is one step below the first block.

    Source: layer-wise decay of BEiT (arXiv:2106.08254), equal to timm's groups (tests/training/test_parameters.py).
    """
    depth = 1 + max((_block(name) for name, _ in net.named_parameters()), default=-1)
    exempt: set[str] = getattr(net, "no_weight_decay", set)()
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            layer = _layer(name, depth) if layer_decay != 1 else depth + 1
            is_free = parameter.ndim <= 1 or name.endswith(".bias") or name in exempt
            group = groups.setdefault(
                (layer, is_free), {"params": [], "lr_scale": layer_decay ** (depth + 1 - layer)}
            )  # fmt: skip
            group["params"].append(parameter)
            if is_free:
                group["weight_decay"] = 0.0
    return [groups[key] for key in sorted(groups)]


def scale_rates(optimizer: Optimizer) -> None:
    """Multiply the learning rate of each group by its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("lr_scale")


def _block(name: str) -> int:
    found = re.match(r"blocks\.(\d+)\.", name)
    return int(found[1]) if found else -1


def _layer(name: str, depth: int) -> int:
    """Return 0 for the stem, 1 to depth for the blocks, depth + 1 for what comes after them."""
    block = _block(name)
    if block >= 0:
        return block + 1
    return depth + 1 if name.startswith(("norm.", "head.")) else 0


def check_same_tensors(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], source: str) -> None:
    """Refuse a checkpoint of another model.

    Args:
        source: name of the checkpoint in the message.

    Raises:
        CheckpointError: names or shapes differ.
    """
    unfit = sorted(own.keys() ^ theirs.keys()) + [
        f"{name} {tuple(theirs[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & theirs.keys())
        if own[name].shape != theirs[name].shape
    ]
    if unfit:
        run = run_with(Path(source))
        config = None if run is None else run / CONFIG
        of_run = f"-c {config}" if config is not None and config.is_file() else "the config that it was trained with"
        raise CheckpointError(
            f"{source} holds another model than model.net: {len(unfit)} tensors differ, first {unfit[0]}; give {of_run}"
        )
