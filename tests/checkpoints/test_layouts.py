"""Keys of the published checkpoints, as literals: their layouts are contracts.

The lists are written out by hand from the published key layouts; nothing of the package's own tables is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import video as torchvision_builders

import mvit_video as mv
from mvit_video.checkpoints import export_state
from mvit_video.models import MViT
from mvit_video.models.families.mvit.exporting import to_layout
from tests.fixtures.nets import MakeNet


def on_meta(name: str, **overrides: Any) -> MViT:
    with torch.device("meta"):
        return mv.create_model(name, **overrides)


def slowfast_keys(
    depth: int,
    wider: Iterable[int],
    pool_q: Iterable[int],
    stem: Iterable[str],
    rel_pos: str = "",
    pool_kv: Iterable[int] | None = None,
) -> set[str]:
    """Keys of SlowFast's `model_state` for a net of `depth` blocks."""
    pairs = ["patch_embed.proj", "norm", "head.projection"]
    keys = set(stem)
    for n in range(depth):
        block = f"blocks.{n}"
        pairs += [f"{block}.norm1", f"{block}.norm2", f"{block}.mlp.fc1", f"{block}.mlp.fc2"]
        pairs += [f"{block}.attn.qkv", f"{block}.attn.proj"]
        pools = ("q" if n in pool_q else "") + ("kv" if pool_kv is None or n in pool_kv else "")
        pairs += [f"{block}.attn.norm_{x}" for x in pools]
        keys |= {f"{block}.attn.pool_{x}.weight" for x in pools}
        keys |= {f"{block}.attn.rel_pos_{axis}" for axis in rel_pos}
        pairs += [f"{block}.proj"] * (n in wider)
    return keys | {f"{pair}.{p}" for pair in pairs for p in ("weight", "bias")}


SEPARABLE = ("cls_token", "pos_embed_spatial", "pos_embed_temporal", "pos_embed_class")
JOINT = ("cls_token", "pos_embed")
#        name             tensors  keys
SLOWFAST = {
    "mvit_b_16x4": (313, slowfast_keys(16, {0, 2, 13}, {1, 3, 14}, SEPARABLE)),
    "mvit_b_32x3": (313, slowfast_keys(16, {0, 2, 13}, {1, 3, 14}, SEPARABLE)),
    "mvit_b24_32x3": (439, slowfast_keys(24, {1, 4, 20}, {2, 5, 21}, SEPARABLE, pool_kv=range(21))),
    "mvit_b_16": (311, slowfast_keys(16, {0, 2, 13}, {1, 3, 14}, JOINT)),
    "mvitv2_s_16x4": (397, slowfast_keys(16, {1, 3, 14}, range(16), ["cls_token"], "hwt")),
    "mvitv2_b_32x3": (589, slowfast_keys(24, {2, 5, 21}, range(24), ["cls_token"], "hwt")),
    "mvitv2_l_40x3": (1165, slowfast_keys(48, {2, 8, 44}, range(48), ["cls_token"], "hwt")),
    "mvitv2_t": (242, slowfast_keys(10, {1, 3, 8}, range(10), [], "hw")),
    "mvitv2_s": (380, slowfast_keys(16, {1, 3, 14}, range(16), [], "hw")),
}


@pytest.mark.parametrize("name", SLOWFAST)
def test_slowfast_keys(name: str) -> None:
    count, keys = SLOWFAST[name]
    net = on_meta(name)
    found = to_layout(net.state_dict(), "slowfast", is_image=net.num_frames == 1)
    assert found.keys() == keys
    assert len(keys) == count


def test_slowfast_shapes() -> None:
    found = to_layout(on_meta("mvit_b_16x4").state_dict(), "slowfast")
    shapes = {key: tuple(found[key].shape) for key in found}
    assert shapes["cls_token"] == shapes["pos_embed_class"] == (1, 1, 96)
    assert shapes["pos_embed_spatial"] == (1, 3136, 96)
    assert shapes["pos_embed_temporal"] == (1, 8, 96)
    assert shapes["patch_embed.proj.weight"] == (96, 3, 3, 7, 7)
    assert shapes["blocks.1.attn.pool_q.weight"] == (96, 1, 3, 3, 3)
    assert shapes["blocks.13.proj.weight"] == (768, 384)
    found = to_layout(on_meta("mvit_b_16").state_dict(), "slowfast", is_image=True)
    assert tuple(found["pos_embed"].shape) == (1, 3137, 96)
    assert tuple(found["patch_embed.proj.weight"].shape) == (96, 3, 7, 7)
    assert tuple(found["blocks.1.attn.pool_q.weight"].shape) == (96, 1, 1, 3, 3)
    found = to_layout(on_meta("mvitv2_l_40x3").state_dict(), "slowfast")
    assert [len(found[f"blocks.{n}.attn.rel_pos_h"]) for n in (0, 2, 3, 8, 9, 44, 45)] == [155, 77, 77, 37, 37, 37, 17]
    assert len(found["blocks.0.attn.rel_pos_t"]) == 39


# ours, pytorchvideo's, torchvision's: the published map, one line of it each
MAP = [
    ("patch_embed.proj.weight", "patch_embed.patch_model.weight", "conv_proj.weight"),
    ("class_token", "cls_positional_encoding.cls_token", "pos_encoding.class_token"),
    ("position.spatial", "cls_positional_encoding.pos_embed_spatial", "pos_encoding.spatial_pos"),
    ("position.temporal", "cls_positional_encoding.pos_embed_temporal", "pos_encoding.temporal_pos"),
    ("position.class_token", "cls_positional_encoding.pos_embed_class", "pos_encoding.class_pos"),
    ("blocks.3.norm1.bias", "blocks.3.norm1.bias", "blocks.3.norm1.bias"),
    ("blocks.3.attn.proj.weight", "blocks.3.attn.proj.weight", "blocks.3.attn.project.0.weight"),
    ("blocks.3.attn.pool_q.pool.weight", "blocks.3.attn.pool_q.weight", "blocks.3.attn.pool_q.pool.weight"),
    ("blocks.3.attn.pool_v.norm.bias", "blocks.3.attn.norm_v.bias", "blocks.3.attn.pool_v.norm_act.0.bias"),
    ("blocks.3.mlp.fc1.weight", "blocks.3.mlp.fc1.weight", "blocks.3.mlp.0.weight"),
    ("blocks.3.mlp.fc2.weight", "blocks.3.mlp.fc2.weight", "blocks.3.mlp.3.weight"),
    ("blocks.13.proj.bias", "blocks.13.proj.bias", "blocks.13.project.bias"),
    ("norm.weight", "norm_embed.weight", "norm.weight"),
    ("head.projection.weight", "head.proj.weight", "head.1.weight"),
]


@pytest.mark.parametrize(("ours", "pytorchvideo", "torchvision"), MAP)
def test_published_map(ours: str, pytorchvideo: str, torchvision: str) -> None:
    state = {ours: on_meta("mvit_b_16x4").state_dict()[ours]}
    assert list(to_layout(state, "pytorchvideo")) == [pytorchvideo]
    assert list(to_layout(state, "torchvision")) == [torchvision]


def test_torchvision_tables_have_no_batch_axis() -> None:
    found = to_layout(on_meta("mvit_b_16x4").state_dict(), "torchvision")
    assert tuple(found["pos_encoding.class_token"].shape) == (96,)
    assert tuple(found["pos_encoding.class_pos"].shape) == (96,)
    assert tuple(found["pos_encoding.spatial_pos"].shape) == (3136, 96)


def with_separate_qkv(state: dict[str, Tensor]) -> dict[str, Tensor]:
    separate = {}
    for key, value in state.items():
        if ".qkv." in key:
            separate |= {key.replace("qkv", x): value.chunk(3)[i] for i, x in enumerate("qkv")}
        else:
            separate[key] = value
    return separate


def test_slowfast_of_2021_has_separate_qkv(make_v1: MakeNet) -> None:
    net, fresh = make_v1(), make_v1().requires_grad_(False)
    fresh.blocks[0].attn.qkv.weight.zero_()
    state = with_separate_qkv(export_state(net, "slowfast"))
    report = mv.load_checkpoint(fresh, {"epoch": 3, "model_state": state})
    assert (report.format, report.missing, report.unexpected) == ("slowfast", [], [])
    assert "q, k and v joined" in report.notes
    assert torch.equal(fresh.blocks[0].attn.qkv.weight, net.blocks[0].attn.qkv.weight)


def test_an_incomplete_qkv_is_reported(make_v1: MakeNet) -> None:
    state = with_separate_qkv(export_state(make_v1(), "slowfast"))
    del state["blocks.1.attn.k.weight"]
    report = mv.load_checkpoint(make_v1(), state, strict=False)
    assert report.missing == ["blocks.1.attn.qkv.weight"]
    assert report.unexpected == ["blocks.1.attn.q.weight", "blocks.1.attn.v.weight"]


def with_aliases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As pytorchvideo's main branch saves it: pools and their norms under two names."""
    aliased = dict(state)
    for key, value in state.items():
        for x in "qkv":
            if f".attn.pool_{x}." in key:
                aliased[key.replace(f"pool_{x}.", f"_attention_pool_{x}.pool.")] = value.clone()
            if f".attn.norm_{x}." in key:
                aliased[key.replace(f"norm_{x}.", f"_attention_pool_{x}.norm.")] = value.clone()
    return aliased


def test_pytorchvideo_has_482_keys_with_aliases() -> None:
    state = with_aliases(to_layout(on_meta("mvit_b_16x4").state_dict(), "pytorchvideo"))
    assert len(state) == 482
    report = mv.load_checkpoint(on_meta("mvit_b_16x4"), state)
    assert (report.format, len(report.loaded)) == ("pytorchvideo", 313)


def test_aliases_must_agree(make_v1: MakeNet) -> None:
    state = with_aliases(export_state(make_v1(), "pytorchvideo"))
    report = mv.load_checkpoint(make_v1(), state)
    assert any("stored twice, with the same values" in note for note in report.notes)
    state["blocks.1.attn._attention_pool_q.norm.bias"] += 1
    with pytest.raises(mv.CheckpointError, match=r"blocks\.1\.attn\._attention_pool_q\.norm\.bias and another name"):
        mv.load_checkpoint(make_v1(), state)


@pytest.mark.parametrize("kernel_axes", [4, 5])
@pytest.mark.parametrize("patch_axes", [4, 5])
def test_kernels_of_images_come_with_and_without_a_time_axis(
    make_v2: MakeNet, image_v2_settings: dict[str, Any], kernel_axes: int, patch_axes: int
) -> None:
    net = make_v2(**image_v2_settings)
    state = export_state(net, "slowfast")
    for key, value in state.items():
        if ".pool_" in key and kernel_axes == 4:
            state[key] = value.squeeze(2)
    if patch_axes == 5:
        state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].unsqueeze(2)
    report = mv.load_checkpoint(make_v2(**image_v2_settings), {"model_state": state})
    assert (report.missing, report.unexpected, report.resized) == ([], [], [])
    assert len(report.loaded) == len(net.state_dict())


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.", "module.model.", "backbone."])
def test_prefixes_of_wrappers_are_removed_and_reported(make_v1: MakeNet, prefix: str) -> None:
    state = {prefix + key: value for key, value in export_state(make_v1(), "slowfast").items()}
    report = mv.load_checkpoint(make_v1(), {"state_dict": state})
    assert report.notes == [f"prefix {prefix} removed from the names"]


def test_what_is_unexpected_has_the_name_that_it_has_in_the_file(make_v1: MakeNet, make_v2: MakeNet) -> None:
    state = {f"module.{key}": value for key, value in export_state(make_v2(), "slowfast").items()}
    state |= {"module.teacher.weight": torch.zeros(1), "cls_token": torch.zeros(1, 1, 12)}
    report = mv.load_checkpoint(make_v1(), state, strict=False)
    assert {"module.teacher.weight", "cls_token", "module.blocks.0.attn.rel_pos_h"} <= set(report.unexpected)


def test_of_several_nets_in_a_file_the_rest_is_unexpected(make_v1: MakeNet) -> None:
    own = make_v1().state_dict()

    def of(*prefixes: str) -> dict[str, Tensor]:
        return {f"{prefix}.{key}": value for prefix in prefixes for key, value in own.items()}

    with pytest.raises(mv.CheckpointError, match=r"110 unexpected \(first teacher\.class_token\)"):
        mv.load_checkpoint(make_v1(), of("net", "teacher"))
    with pytest.raises(mv.CheckpointError, match=r"holds 2 nets, named old\., teacher\.; expected one"):
        mv.load_checkpoint(make_v1(), of("old", "teacher"))
    report = mv.load_checkpoint(make_v1(), of("net", "ema"))
    assert any("ema" in note for note in report.notes)


PACKAGED = [
    ("mvit_b_16x4", "torchvision", "mvit_v1_b", {}),
    ("mvitv2_s_16x4", "torchvision", "mvit_v2_s", {}),
    ("mvit_b_16x4", "pytorchvideo", "mvit_base_16x4", {}),
    ("mvit_b_32x3", "pytorchvideo", "mvit_base_32x3", {}),
    ("mvit_b_16", "pytorchvideo", "mvit_base_16", {"position": "separable", "num_classes": 400}),
]


@pytest.mark.parametrize(("name", "format", "theirs", "overrides"), PACKAGED)
def test_keys_and_shapes_of_the_reference_packages_at_full_size(
    name: str, format: str, theirs: str, overrides: dict[str, Any]
) -> None:
    builders = torchvision_builders if format == "torchvision" else pytest.importorskip("pytorchvideo.models.hub")
    expected = {key: value.shape for key, value in getattr(builders, theirs)().state_dict().items()}
    net = on_meta(name, **overrides)
    found = to_layout(net.state_dict(), format, is_image=net.num_frames == 1)
    assert {key: value.shape for key, value in found.items()} == expected
