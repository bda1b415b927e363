"""Arguments of an MViT that leave no trace in tensors: as a file states them, else assumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mvit_video.models.families.mvit.inferring import PYTORCHVIDEO_EPS
from mvit_video.models.families.mvit.net import MViT
from mvit_video.models.recipes import Recipe


def untraced_arguments(net: MViT, stated: Recipe | None, format: str) -> dict[str, Any]:
    """Return arguments that leave no trace, as a file states them, to build a named net with."""
    if stated is None:
        return {"pooling": replace(net.pooling, norm_eps=PYTORCHVIDEO_EPS)} if format == "pytorchvideo" else {}
    found: dict[str, Any] = {}
    head_pool, pooling = stated.arguments.get("head_pool"), stated.arguments["pooling"]
    if head_pool and (head_pool != "cls" or net.class_token is not None):
        found["head_pool"] = head_pool
    if (pooling.kernel, pooling.mode) == (net.pooling.kernel, net.pooling.mode):
        found["pooling"] = pooling
    return found


def assumed(net: MViT, format: str, origin: str) -> dict[str, str]:
    """Return a line for each argument that leaves no trace, for a file that states nothing."""
    lines = {}
    pooling = net.pooling
    if pooling.kernel and (net.pooling.stride_kv or len(net.blocks) > 1):
        strides = f"stride_q={tuple(pooling.stride_q)}, stride_kv={pooling.stride_kv and tuple(pooling.stride_kv)}"
        lines["stride"] = f"strides leave no trace; taken {origin}: {strides}"
    if format != "torchvision":
        hint = "" if net.head_pool == "mean_of_patches" else "; SlowFast with USE_MEAN_POOLING is mean_of_patches"
        hint = hint if format == "slowfast" else ""
        lines["head_pool"] = f"head_pool leaves no trace; taken {origin}: {net.head_pool}{hint}"
    if format == "pytorchvideo" and pooling.mode == "conv":
        usual = " (pytorchvideo 0.1.5 has 1e-05)" if pooling.norm_eps != PYTORCHVIDEO_EPS else ", as in 0.1.5"
        lines["norm_eps"] = f"pooling.norm_eps leaves no trace; the net has {pooling.norm_eps:g}{usual}"
    if format == "slowfast" and pooling.mode == "conv":
        lines["norm_eps"] = (
            f"pooling.norm_eps leaves no trace; the net has {pooling.norm_eps:g} (SlowFast had 1e-05 before June 2022)"
        )
    if format == "timm" and net.class_token is not None:
        lines["residual"] = (
            "timm adds pooled queries to the class token too; nets here do not, as the code that trained the published "
            "weights"
        )
    return lines


def conflicts(net: MViT, stated: Recipe) -> dict[str, str]:
    """Return arguments that leave no trace and are not the same; pools of other kernels are of another net."""
    lines = {}
    head_pool, theirs, ours = stated.arguments.get("head_pool"), stated.arguments["pooling"], net.pooling
    if head_pool and head_pool != net.head_pool:
        lines["head_pool"] = f"head_pool is {head_pool} in the file, {net.head_pool} in the model"
    if (theirs.kernel, theirs.mode) == (ours.kernel, ours.mode):
        for key in ("stride_q", "stride_kv"):
            found, own = (one and tuple(one) for one in (getattr(theirs, key), getattr(ours, key)))
            if found != own:
                lines["stride"] = f"pooling.{key} is {found} in the file, {own} in the model"
        if theirs.norm_eps != ours.norm_eps:
            lines["norm_eps"] = f"pooling.norm_eps is {theirs.norm_eps:g} in the file, {ours.norm_eps:g} in the model"
    return lines
