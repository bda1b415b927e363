"""Fit a checkpoint's tensors to a model of another size: positions resized, kernels of images inflated over time."""

from __future__ import annotations

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor

from mvit_video.types import THW

INFLATIONS = ("centre", "average")


def square(num_cells: int) -> int | None:
    """Side of a square of so many cells; None when there is none."""
    side = math.isqrt(num_cells)
    return side if side * side == num_cells else None


def resize_plane(table: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """A table `(1, side * side, C)` over space for another grid, bicubically as SlowFast does."""
    plane = table.mT.unflatten(-1, (side, side))
    return F.interpolate(plane, size, mode="bicubic", align_corners=False).flatten(2).mT


def resize_line(table: Tensor, num_rows: int) -> Tensor:
    """A table `(..., rows, C)` along one axis with another number of rows, linearly as SlowFast does."""
    line = table.reshape(1, *table.shape[-2:]).mT
    return F.interpolate(line, num_rows, mode="linear", align_corners=False).mT.reshape(
        *table.shape[:-2], num_rows, table.shape[-1]
    )


def resize_joint(table: Tensor, found: THW, thw: THW) -> Tensor:
    """A table `(1, 1 + T*H*W, C)` for another grid, trilinearly; the class token's row stays."""
    volume = table[:, 1:].mT.unflatten(-1, found)
    cells = F.interpolate(volume, thw, mode="trilinear", align_corners=False).flatten(2).mT
    return torch.cat([table[:, :1], cells], dim=1)


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


def fit(key: str, tensor: Tensor, shape: tuple[int, ...], thw: THW | None, inflation: str) -> tuple[Tensor, str] | None:
    """The tensor in another shape and how it got there; None where there is no way.

    Args:
        key: its name in this project.
        shape: wanted.
        thw: grid of the model's absolute position tables, None when it has none.
    """
    found = tuple(tensor.shape)
    if _is_pixel_kernel(key) and len(found) == 5 and (*found[:2], 1, *found[3:]) == (*shape[:2], 1, *shape[3:]):
        if found[2] != 1:
            return None
        how = "on the middle frame" if inflation == "centre" else "an equal part on each frame"
        return inflate_kernel(tensor, shape[2], inflation), f"inflated, {how}"
    if len(found) != len(shape) or found[-1] != shape[-1] or min(found) < 1:
        return None
    computed = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    if re.fullmatch(r"blocks\.\d+\.attn\.rel_pos\.[hwt]", key) or key == "position.temporal":
        return resize_line(computed, shape[-2]), "linear"
    if thw and key == "position.spatial" and (side := square(found[1])):
        return resize_plane(computed, side, (thw.h, thw.w)), "bicubic"
    if thw and key == "position.table" and (grid := grid_of_joint(found[1] - 1, thw)):
        return resize_joint(computed, grid, thw), "trilinear"
    return None


def _is_pixel_kernel(key: str) -> bool:
    return key == "patch_embed.proj.weight" or key.endswith(".pool.weight")


def convert_positions(tensors: dict[str, Tensor], wanted: set[str]) -> str | None:
    """Makes the kind of absolute positions that a model has of those that `tensors` hold, where that is exact.

    Separable tables add up to a joint one; a joint one of images is a spatial table beside a temporal one of zero.

    Args:
        tensors: by our names; changed.
        wanted: names in the model.

    Returns: what was done, if anything was.
    """
    separable = ("position.spatial", "position.temporal", "position.class_token")
    if "position.table" in wanted and "position.table" not in tensors and all(key in tensors for key in separable):
        spatial, temporal, class_token = (tensors.pop(key) for key in separable)
        cells = (temporal[:, :, None] + spatial[:, None]).flatten(1, 2)
        tensors["position.table"] = torch.cat([class_token, cells], dim=1)
        return "separable positions added up to a joint table"
    table = tensors.get("position.table")
    if table is not None and wanted.issuperset(separable) and square(table.shape[1] - 1):
        if tensors.get("patch_embed.proj.weight", table).shape[2] != 1:  # a clip's table is no sum of two
            return None
        del tensors["position.table"]
        tensors["position.class_token"], tensors["position.spatial"] = table[:, :1], table[:, 1:]
        tensors["position.temporal"] = torch.zeros_like(table[:, :1])
        return "joint positions of images became a spatial table; the temporal one is zero"
    return None
