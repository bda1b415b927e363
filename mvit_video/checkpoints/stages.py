"""Names of blocks that others number stage by stage, and this project one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import accumulate


def flat(names: Mapping[str, str]) -> dict[str, str]:
    """Return names by stage and place as this project has them, for each key.

    Args:
        names: from their keys to the first column of a layout that is staged.
    """
    sizes = _num_blocks(names.values())
    order = {stage: index for index, stage in enumerate(sorted(sizes))}
    starts = list(accumulate((sizes[stage] for stage in sorted(sizes)), initial=0))
    return {key: _flat(name, order, starts) for key, name in names.items()}


def _num_blocks(names: Iterable[str]) -> dict[int, int]:
    """Count the blocks of each stage."""
    sizes: dict[int, int] = {}
    for name in names:
        if match := re.match(r"stage\.(\d+)\.(\d+)\.", name):
            stage, place = int(match[1]), int(match[2])
            sizes[stage] = max(sizes.get(stage, 0), place + 1)
    return sizes


def _flat(name: str, order: Mapping[int, int], starts: list[int]) -> str:
    match = re.match(r"stage\.(last|\d+)\.(?:(\d+)\.)?", name)
    if not match or not order:
        return name
    rest = name[match.end() :]
    stage = len(order) - 1 if match[1] == "last" else order.get(int(match[1]), int(match[1]))
    if stage >= len(order):
        return name
    if match[2]:
        return f"blocks.{starts[stage] + int(match[2])}.{rest}"
    if rest.startswith("peg."):
        return f"blocks.{starts[stage]}.{rest}"
    if rest.startswith("norm."):  # that of the last stage is the net's
        return rest if stage == len(order) - 1 else f"blocks.{starts[stage + 1] - 1}.stage_{rest}"
    return rest if stage == 0 else f"blocks.{starts[stage]}.entry.{rest}"
