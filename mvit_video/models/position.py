"""Position encodings by name: tables added to tokens, relative positions in attention, PEGs between blocks."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

from torch import Tensor

from mvit_video.nn import JointPosition, PositionEncodingGenerator, SeparablePosition
from mvit_video.nn.position import Resize
from mvit_video.types import THW, ConfigError

PositionKind = Literal["separable", "joint", "relative", "peg", "peg_first_five", "peg_stages", "none"]
Position: TypeAlias = PositionKind | tuple[PositionKind, ...]

_TABLES = ("separable", "joint")
_PEGS = ("peg", "peg_first_five", "peg_stages")


def kinds_of(position: Position) -> tuple[PositionKind, ...]:
    """Return the kinds of position encoding of a net; empty for none.

    Args:
        position: one or more kinds: at most one table, relative positions, and one placement of PEGs (after the first
            block, each of the first five, or the first of each stage).

    Raises:
        ConfigError: a name is unknown, or two exclude each other.
    """
    kinds = (position,) if isinstance(position, str) else tuple(position)
    for kind in kinds:
        if kind not in get_args(PositionKind):
            raise ConfigError(f"position must be one or more of {', '.join(get_args(PositionKind))}, got {kind!r}")
    for group in (_TABLES, _PEGS):
        if sum(kind in group for kind in kinds) > 1:
            raise ConfigError(f"position may have one of {', '.join(group)}, got {', '.join(kinds)}")
    if "none" in kinds:
        if len(kinds) > 1:
            raise ConfigError(f"position none goes with no other, got {', '.join(kinds)}")
        return ()
    return kinds


def joined(kinds: Sequence[PositionKind]) -> Position:
    """Return kinds of position encoding as the argument of a builder; the reverse of `kinds_of`."""
    return tuple(kinds) if len(kinds) > 1 else kinds[0] if kinds else "none"


def position_in(tensors: Mapping[str, Tensor], starts: Sequence[int]) -> Position:
    """Return the position encoding that a state dict shows.

    Args:
        tensors: by our names.
        starts: first block of each stage.
    """
    kinds: list[PositionKind] = []
    if "position.spatial" in tensors:
        kinds.append("separable")
    if "position.table" in tensors:
        kinds.append("joint")
    if "blocks.0.attn.rel_pos.h" in tensors:
        kinds.append("relative")
    pegs = [int(match[1]) for key in tensors if (match := re.fullmatch(r"blocks\.(\d+)\.peg\.conv\.weight", key))]
    if pegs:
        kinds.append("peg" if pegs == [0] else "peg_stages" if sorted(pegs) == list(starts) else "peg_first_five")
    return joined(kinds)


def square(num_cells: int) -> int | None:
    """Return the side of a square of this number of cells; None if it is no square."""
    side = math.isqrt(num_cells)
    return side if side * side == num_cells else None


def table(
    kinds: Collection[PositionKind], thw: THW, dim: int, *, class_token: bool, resize: Resize = "bicubic"
) -> SeparablePosition | JointPosition | None:
    """Return the table that is added to the tokens of a grid; None for no table."""
    if "separable" in kinds:
        return SeparablePosition(thw, dim, class_token=class_token, resize=resize)
    if "joint" in kinds:
        return JointPosition(thw, dim, class_token=class_token)
    return None


def peg_blocks(kinds: Collection[PositionKind], stage_starts: Collection[int]) -> Collection[int]:
    """Return the blocks that a PEG follows."""
    if "peg" in kinds:
        return range(1)
    if "peg_first_five" in kinds:
        return range(5)
    return stage_starts if "peg_stages" in kinds else ()


def peg(dim: int, *, temporal: bool) -> PositionEncodingGenerator:
    """Return a PEG over three cells along each axis; over one frame in nets for images."""
    return PositionEncodingGenerator(dim, THW(3 if temporal else 1, 3, 3))
