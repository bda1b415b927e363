"""A net remembers its recipe, and files of earlier versions of this project still hold one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import mvit_video as mv
from mvit_video.checkpoints import metadata_of
from mvit_video.models import MViT, Pyramid, VideoNet, alternet, block_table, cpvt, mvit, mvit_b_16, mvitv2, pvt, pvt_v2
from mvit_video.nn import tune_for_cpu

SIZES: dict[str, Any] = {"num_classes": 5, "num_frames": 4, "crop_size": 32}
PYRAMID = Pyramid(dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 4))
_PYRAMID = """{"dims": [8, 16, 24, 32], "num_heads": [1, 2, 3, 4], "strides_kv": [[1, 8, 8], [1, 4, 4], [1, 2, 2],
[1, 1, 1]], "mlp_ratios": [8, 8, 4, 4], "kv_reduction": "%s", "uneven": "pad"}"""
# Written by the versions that described a net by its modules: of November 2026, and before heads had a pool and norms
# an eps.
OLD = {
    "mvit": """{"num_classes": 5, "num_frames": 4, "crop_size": 32, "dropout": 0.5, "drop_path_rate": 0.2,
"depths": [1, 2, 2], "embed_dim": 12, "num_heads": 1, "patch": {"kernel": [3, 7, 7], "stride": [2, 4, 4]},
"pooling": {"mode": "conv", "kernel": [3, 3, 3], "stride_q": [1, 2, 2], "stride_kv": [1, 8, 8],
"adaptive_kv_stride": true, "kv_at_stride_1": true, "q_everywhere": false, "residual": false, "kv_reduction": "sra"},
"position": ["separable", "peg"], "class_token": true}""",
    "mvitv2": """{"num_classes": 5, "num_frames": 4, "crop_size": 32, "dropout": 0.5,
"drop_path_rate": 0.20000000298023224, "depths": [1, 2], "embed_dim": 12, "num_heads": 1, "patch": {"kernel": [3, 7, 7],
"stride": [2, 4, 4]}, "pooling": {"mode": "conv", "kernel": [3, 3, 3], "stride_q": [1, 2, 2], "stride_kv": [1, 8, 8],
"adaptive_kv_stride": true, "kv_at_stride_1": true, "q_everywhere": true, "residual": true, "kv_reduction": null,
"norm_eps": 1e-06}, "position": "relative", "class_token": true, "head_pool": "mean_of_patches",
"expand_in_attention": true}""",
    "pvt": """{"num_classes": 5, "num_frames": 4, "crop_size": 32, "dropout": 0.0, "drop_path_rate": 0.1,
"depths": [1, 1, 1, 1], "patch": {"kernel": [1, 4, 4], "stride": [1, 4, 4]}, "position": "separable",
"class_token": true, "pyramid": """ + _PYRAMID % "sra" + "}",
    "pvt_v2": """{"num_classes": 5, "num_frames": 4, "crop_size": 32, "dropout": 0.0, "drop_path_rate": 0.1,
"depths": [1, 1, 1, 1], "patch": {"kernel": [1, 7, 7], "stride": [1, 4, 4]}, "position": "none",
"pyramid": """ + _PYRAMID % "linear_sra" + "}",
    "alternet": """{"num_classes": 5, "num_frames": 1, "crop_size": 32, "dropout": 0.0, "drop_path_rate": 0.1,
"depths": [1, 1, 1, 1], "num_pairs": [0, 0, 0, 0], "block": "basic", "stem_stride": 1}""",
}  # fmt: skip


def now(builder: str) -> VideoNet:
    """The net that the text of a builder describes, by arguments of today."""
    if builder == "mvit":
        return mvit(**SIZES, depths=(1, 2, 2), embed_dim=12, kv_reduction="sra", position=("separable", "peg"))
    if builder == "mvitv2":
        return mvitv2(**SIZES, depths=(1, 2), embed_dim=12, head_pool="mean_of_patches")
    if builder == "pvt":
        return pvt(**SIZES, depths=(1, 1, 1, 1), pyramid=PYRAMID)
    if builder == "pvt_v2":
        return pvt_v2(**SIZES, depths=(1, 1, 1, 1), pyramid=PYRAMID, kv_reduction="linear_sra")
    return alternet(**SIZES | {"num_frames": 1}, depths=(1, 1, 1, 1), num_pairs=(0, 0, 0, 0), block="basic")


@pytest.mark.parametrize("builder", OLD)
@torch.no_grad()
def test_a_file_of_an_earlier_version_makes_the_net(builder: str, tmp_path: Path) -> None:
    net = tune_for_cpu(now(builder)).eval()
    metadata = {"format": "mvit_video", "version": "1", "builder": builder, "arguments": OLD[builder]}
    save_file(net.state_dict(), tmp_path / "old.safetensors", metadata)
    found = mv.create_model(checkpoint=tmp_path / "old.safetensors").eval()
    clip = torch.randn(2, 3, net.num_frames, 32, 32)
    assert torch.equal(found(clip), net(clip))
    rates = ("drop_path_rate", "dropout")  # one was read from a float32
    seen = [{key: one for key, one in net.recipe.arguments.items() if key not in rates} for net in (found, net)]
    assert seen[0] == seen[1]
    state = {f"net.{key}": one for key, one in net.state_dict().items()}
    run = {"pytorch-lightning_version": "2.6", "mvit_video": metadata, "state_dict": state}
    torch.save(run, tmp_path / "old.ckpt")
    assert mv.create_model(checkpoint=tmp_path / "old.ckpt").recipe == found.recipe


def test_a_recipe_has_all_arguments_as_they_came_out() -> None:
    net = cpvt(**SIZES, depths=(2,), embed_dim=12, class_token=False)
    assert net.recipe.name == "mvit"
    assert net.recipe.arguments["head_pool"] == "gap"
    assert net.recipe.arguments["num_heads"] == 3
    assert pvt(num_frames=4, depths=(1, 1, 1, 1)).recipe.arguments["position"] == "separable"
    assert [key for key in net.state_dict() if "recipe" in key] == []
    assert json.loads(metadata_of(net)["arguments"])["depths"] == [2]


def test_a_recipe_survives_copies_and_follows_a_new_head() -> None:
    net = mvit_b_16(depths=(1, 1), embed_dim=8, crop_size=32, num_classes=3)
    again = copy.deepcopy(net)
    assert again.recipe == net.recipe
    again.reset_classifier(9)
    assert again.recipe.arguments == net.recipe.arguments | {"num_classes": 9}
    assert again.recipe.build().num_classes == 9


def test_a_net_of_no_builder_has_no_recipe(tmp_path: Path) -> None:
    arguments = mvit(**SIZES, depths=(1,), embed_dim=8).recipe.arguments
    net = MViT(
        block_table((1,), 8, 1, arguments["pooling"]), **SIZES, patch=arguments["patch"], pooling=arguments["pooling"],
        position="none",
    )  # fmt: skip
    assert net.recipe is None
    with pytest.raises(mv.CheckpointError, match=r"no builder makes this model; save model\.state_dict"):
        mv.save_checkpoint(net, tmp_path / "net.safetensors")
    changed = mvit(**SIZES, depths=(1,), embed_dim=8)
    changed.norm = nn.Identity()
    with pytest.raises(mv.CheckpointError, match=r"norm\.bias would be \(8,\) but is absent"):
        metadata_of(changed)
