"""Weights of MViT, MViTv2 and CPVT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from mvit_video.models.architecture import Pooling
from mvit_video.models.families.mvit.exporting import export, export_notes
from mvit_video.models.families.mvit.inferring import PYTORCHVIDEO_EPS, infer_recipe
from mvit_video.models.families.mvit.layouts import OWN, PYTORCHVIDEO, SLOWFAST, TIMM, TORCHVISION
from mvit_video.models.families.mvit.net import MViT
from mvit_video.models.family import Weights
from mvit_video.models.recipes import Recipe


class MViTWeights(Weights):
    """Weights of the projects that published MViT."""

    layouts = (OWN, SLOWFAST, PYTORCHVIDEO, TORCHVISION, TIMM)
    export_formats = ("slowfast", "pytorchvideo", "torchvision")

    def infer(
        self, tensors: Mapping[str, Tensor], format: str, *, num_frames: int | None, crop_size: int | None
    ) -> tuple[Recipe, list[str]]:
        norm_eps = PYTORCHVIDEO_EPS if format == "pytorchvideo" else Pooling.norm_eps
        return infer_recipe(tensors, num_frames, crop_size, norm_eps)

    def untraced_arguments(self, net: MViT, stated: Recipe | None, format: str) -> dict[str, Any]:
        if stated is None:
            return {"pooling": replace(net.pooling, norm_eps=PYTORCHVIDEO_EPS)} if format == "pytorchvideo" else {}
        found: dict[str, Any] = {}
        head_pool, pooling = stated.arguments.get("head_pool"), stated.arguments["pooling"]
        if head_pool and (head_pool != "cls" or net.class_token is not None):
            found["head_pool"] = head_pool
        if (pooling.kernel, pooling.mode) == (net.pooling.kernel, net.pooling.mode):
            found["pooling"] = pooling
        return found

    def assumed(self, net: MViT, format: str, origin: str) -> dict[str, str]:
        lines, pooling = {}, net.pooling
        if pooling.kernel and (pooling.stride_kv or len(net.blocks) > 1):
            strides = f"stride_q={tuple(pooling.stride_q)}, stride_kv={pooling.stride_kv and tuple(pooling.stride_kv)}"
            lines["stride"] = f"strides are not in the file; assumed {origin}: {strides}"
        if format != "torchvision":
            is_other = format == "slowfast" and net.head_pool != "mean_of_patches"
            hint = " (SlowFast with USE_MEAN_POOLING: mean_of_patches)" if is_other else ""
            lines["head_pool"] = f"head_pool is not in the file; assumed {origin}: {net.head_pool}{hint}"
        if format in ("pytorchvideo", "slowfast") and pooling.mode == "conv":
            usual = "SlowFast had 1e-05 before June 2022"
            if format == "pytorchvideo":
                usual = "as in 0.1.5" if pooling.norm_eps == PYTORCHVIDEO_EPS else "pytorchvideo 0.1.5 has 1e-05"
            lines["norm_eps"] = f"pooling.norm_eps is not in the file; the net has {pooling.norm_eps:g} ({usual})"
        if format == "timm" and net.class_token is not None:
            lines["residual"] = (
                "timm adds pooled queries to the class token too; nets here do not, as in the code that trained the "
                "published weights"
            )
        return lines

    def conflicts(self, net: MViT, stated: Recipe) -> dict[str, str]:
        lines = {}
        head_pool, theirs, ours = stated.arguments.get("head_pool"), stated.arguments["pooling"], net.pooling
        if head_pool and head_pool != net.head_pool:
            lines["head_pool"] = f"head_pool is {head_pool} in the file, {net.head_pool} in the model"
        if (theirs.kernel, theirs.mode) == (ours.kernel, ours.mode):  # other kernels are of another net
            for key in ("stride_q", "stride_kv"):
                found, own = (one and tuple(one) for one in (getattr(theirs, key), getattr(ours, key)))
                if found != own:
                    lines["stride"] = f"pooling.{key} is {found} in the file, {own} in the model"
            if theirs.norm_eps != ours.norm_eps:
                lines["norm_eps"] = (
                    f"pooling.norm_eps is {theirs.norm_eps:g} in the file, {ours.norm_eps:g} in the model"
                )
        return lines

    def export(self, net: MViT, state: dict[str, Tensor], format: str) -> dict[str, Tensor]:
        return export(net, state, format)

    def export_notes(self, net: MViT, format: str) -> list[str]:
        return export_notes(net, format)
