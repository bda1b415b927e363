"""A checkpoint's tensors for a model of another size: positions resized, kernels of images inflated over time."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvit_video.checkpoints.translation import is_kernel
from mvit_video.models.position import square
from mvit_video.nn import JointPosition, SeparablePosition
from mvit_video.types import THW

INFLATIONS = ("centre", "average")


def resize_plane(table: Tensor, side: int, size: tuple[int, int], mode: str) -> Tensor:
    """A table `(1, side * side, C)` over space for another grid, bicubically as SlowFast does or bilinearly as PVT."""
    plane = table.mT.unflatten(-1, (side, side))
    return F.interpolate(plane, size, mode=mode, align_corners=False).flatten(2).mT


def resize_line(table: Tensor, num_rows: int) -> Tensor:
    """A table `(..., rows, C)` along one axis with another number of rows, linearly as SlowFast does."""
    line = table.reshape(1, *table.shape[-2:]).mT
    return F.interpolate(line, num_rows, mode="linear", align_corners=False).mT.reshape(
        *table.shape[:-2], num_rows, table.shape[-1]
    )


def resize_joint(table: Tensor, found: THW, thw: THW) -> Tensor:
    """A table `(1, T*H*W, C)` for another grid, trilinearly; rows before the cells, the class token's, stay."""
    class_token, cells = table.tensor_split([table.shape[1] - found.volume], dim=1)
    volume = cells.mT.unflatten(-1, found)
    cells = F.interpolate(volume, thw, mode="trilinear", align_corners=False).flatten(2).mT
    return torch.cat([class_token, cells], dim=1)


def grid_of_joint(num_cells: int, thw: THW) -> THW | None:
    """The grid of a joint table of a square clip, if it shares time or space with `thw`; None if it may be either."""
    grids = set()
    if num_cells % thw.t == 0 and (side := square(num_cells // thw.t)):
        grids.add(THW(thw.t, side, side))
    if num_cells % (thw.h * thw.w) == 0:
        grids.add(THW(num_cells // (thw.h * thw.w), thw.h, thw.w))
    return grids.pop() if len(grids) == 1 else None


def inflate_kernel(kernel: Tensor, length: int, inflation: str) -> Tensor:
    """A kernel `(..., 1, h, w)` over `length` frames: all of it on the middle frame, or an equal part on each."""
    if inflation == "average":
        return (kernel / length).repeat_interleave(length, dim=-3)
    before = length // 2
    return F.pad(kernel, (0, 0, 0, 0, before, length - 1 - before))


def resize(
    key: str, tensor: Tensor, shape: tuple[int, ...], tables: nn.Module | None, inflation: str
) -> tuple[Tensor, str] | None:
    """Return the tensor in another shape and how it got there; None where there is no way.

    Args:
        key: its name in this project.
        shape: wanted.
        tables: the model's absolute positions that the tensor belongs to, None for none.
    """
    found = tuple(tensor.shape)
    if is_kernel(key) and len(found) == 5 and (*found[:2], 1, *found[3:]) == (*shape[:2], 1, *shape[3:]):
        if found[2] != 1:
            return None
        if key.endswith(".reduction.conv.weight"):  # joins all frames of a cube: none of them is the middle one
            inflation = "average"
        how = "on the middle frame" if inflation == "centre" else "an equal part on each frame"
        return inflate_kernel(tensor, shape[2], inflation), f"inflated, {how}"
    if len(found) != len(shape) or found[-1] != shape[-1] or min(found) < 1:
        return None
    computed = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    if re.fullmatch(r"blocks\.\d+\.attn\.rel_pos\.[hwt]", key) or key.endswith("position.temporal"):
        return resize_line(computed, shape[-2]), "linear"
    if isinstance(tables, SeparablePosition) and key.endswith(".spatial") and (side := square(found[1])):
        return resize_plane(computed, side, tables.thw[1:], tables.resize), tables.resize
    if isinstance(tables, JointPosition) and (grid := grid_of_joint(found[1] - tables.num_class_tokens, tables.thw)):
        return resize_joint(computed, grid, tables.thw), "trilinear"
    return None


def convert_positions(tensors: dict[str, Tensor], wanted: set[str]) -> str | None:
    """Make the kind of absolute positions that a model has of those that `tensors` hold, where that is exact.

    Separable tables add up to a joint one; a joint one of images is a spatial table beside a temporal one of zero.

    Args:
        tensors: by our names; changed.
        wanted: names in the model.

    Returns: what was done, if anything was.
    """
    stem = tensors.get("patch_embed.proj.weight")
    is_image = stem is None or stem.shape[2] == 1  # a clip's table is no sum of two
    note = None
    for key in [key for key in (*wanted, *tensors) if key.endswith("position.spatial")]:
        prefix = key.removesuffix("spatial")
        spatial, temporal, token, joint = (prefix + part for part in ("spatial", "temporal", "class_token", "table"))
        if joint in wanted and joint not in tensors and spatial in tensors and temporal in tensors:
            cells = (tensors.pop(temporal)[:, :, None] + tensors.pop(spatial)[:, None]).flatten(1, 2)
            tensors[joint] = torch.cat([tensors.pop(token), cells], dim=1) if token in tensors else cells
            note = "separable positions added up to a joint table"
        table = tensors.get(joint)
        num_class_tokens = int(token in wanted)
        if table is not None and spatial in wanted and is_image and square(table.shape[1] - num_class_tokens):
            del tensors[joint]
            rows = table.tensor_split([num_class_tokens], dim=1)
            tensors |= {spatial: rows[1], temporal: torch.zeros_like(table[:, :1])}
            tensors |= {token: rows[0]} if num_class_tokens else {}
            note = "joint positions of images became a spatial table; the temporal one is zero"
    return note
