"""Tensors of a checkpoint for a model of another size: positions resized, kernels of images inflated over time."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvit_video.checkpoints.translation import is_kernel
from mvit_video.models.position import square
from mvit_video.nn import JointPosition, SeparablePosition
from mvit_video.nn.position import resize_joint, resize_line, resize_plane
from mvit_video.types import THW

INFLATIONS = ("centre", "average")


def grid_of_joint(num_cells: int, thw: THW) -> THW | None:
    """Return the grid of a joint table of a square clip that shares time or space with `thw`; None if both fit."""
    grids = set()
    if num_cells % thw.t == 0 and (side := square(num_cells // thw.t)):
        grids.add(THW(thw.t, side, side))
    if num_cells % (thw.h * thw.w) == 0:
        grids.add(THW(num_cells // (thw.h * thw.w), thw.h, thw.w))
    return grids.pop() if len(grids) == 1 else None


def resize(
    key: str, tensor: Tensor, shape: tuple[int, ...], tables: nn.Module | None, inflation: str
) -> tuple[Tensor, str] | None:
    """Return the tensor in another shape, and how; None if it cannot have this shape.

    Args:
        key: our name.
        shape: shape in the model.
        tables: module of absolute positions that has the tensor; None for another tensor.
    """
    found = tuple(tensor.shape)
    if is_kernel(key) and len(found) == 5 and (*found[:2], 1, *found[3:]) == (*shape[:2], 1, *shape[3:]):
        if found[2] != 1:
            return None
        length = shape[2]
        if inflation == "average" or key.endswith(".reduction.conv.weight"):  # which joins all frames of a cube
            return (tensor / length).repeat_interleave(length, dim=2), "inflated, an equal part on each frame"
        before = length // 2
        return F.pad(tensor, (0, 0, 0, 0, before, length - 1 - before)), "inflated, on the middle frame"
    if len(found) != len(shape) or found[-1] != shape[-1] or min(found) < 1:
        return None
    computed = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    if re.fullmatch(r"blocks\.\d+\.attn\.rel_pos\.[hwt]", key) or key.endswith("position.temporal"):
        return resize_line(computed.reshape(1, *found[-2:]), shape[-2]).reshape(shape), "linear"
    if isinstance(tables, SeparablePosition) and key.endswith(".spatial") and (side := square(found[1])):
        return resize_plane(computed, (side, side), tables.thw[1:], tables.resize), tables.resize
    if isinstance(tables, JointPosition) and (grid := grid_of_joint(found[1] - tables.num_class_tokens, tables.thw)):
        return resize_joint(computed, grid, tables.thw), "trilinear"
    return None


def convert_positions(tensors: dict[str, Tensor], wanted: set[str]) -> str | None:
    """Convert absolute positions in `tensors` to the kind of the model, where that is exact.

    Separable tables add up to a joint table; a joint table of images is a spatial table with a temporal table of zeros.

    Args:
        tensors: by our names; changed.
        wanted: names in the model.

    Returns: what was done; None for nothing.
    """
    stem = tensors.get("patch_embed.proj.weight")
    is_image = stem is None or stem.shape[2] == 1  # the table of a clip is not a sum of two
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
