"""Weights of MViT, MViTv2 and CPVT: what `checkpoints` asks about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mvit_video.models.architecture import Pooling
from mvit_video.models.families.mvit.exporting import export, export_notes
from mvit_video.models.families.mvit.inferring import PYTORCHVIDEO_EPS, infer_recipe
from mvit_video.models.families.mvit.layouts import OWN, PYTORCHVIDEO, SLOWFAST, TIMM, TORCHVISION
from mvit_video.models.families.mvit.untraced import assumed, conflicts, untraced_arguments
from mvit_video.models.family import Weights
from mvit_video.models.recipes import Recipe


class MViTWeights(Weights):
    """Weights of the code bases that published MViT."""

    layouts = (OWN, SLOWFAST, PYTORCHVIDEO, TORCHVISION, TIMM)
    export_formats = ("slowfast", "pytorchvideo", "torchvision")

    def infer(
        self, tensors: Mapping[str, Tensor], format: str, *, num_frames: int | None, crop_size: int | None
    ) -> tuple[Recipe, list[str]]:
        norm_eps = PYTORCHVIDEO_EPS if format == "pytorchvideo" else Pooling.norm_eps
        return infer_recipe(tensors, num_frames, crop_size, norm_eps)

    def untraced_arguments(self, net: Any, stated: Recipe | None, format: str) -> dict[str, Any]:
        return untraced_arguments(net, stated, format)

    def assumed(self, net: Any, format: str, origin: str) -> dict[str, str]:
        return assumed(net, format, origin)

    def conflicts(self, net: Any, stated: Recipe) -> dict[str, str]:
        return conflicts(net, stated)

    def export(self, net: Any, state: dict[str, Tensor], format: str) -> dict[str, Tensor]:
        return export(net, state, format)

    def export_notes(self, net: Any, format: str) -> list[str]:
        return export_notes(net, format)
