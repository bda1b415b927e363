"""`create_model(checkpoint=...)`: the net that a file states or, silently, shows."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import mvit_video as mv
from mvit_video.checkpoints import (
    export_state,
    infer_architecture,
    read_checkpoint,
    translate,
)
from mvit_video.models import MViT, Patch, Pooling, builders, mvit, mvitv2
from mvit_video.models.families.mvit.exporting import to_layout
from mvit_video.models.recipes import Recipe
from mvit_video.nn import tune_for_cpu
from tests.fixtures.nets import ClipFor, MakeNet

UNSEEN = ("drop_path_rate", "dropout", "kv_reduction")  # tensors do not show these, or they are part of `pooling`


@pytest.mark.parametrize("name", mv.list_models())
def test_every_published_net_is_inferred_from_its_shapes(name: str) -> None:
    with torch.device("meta"):
        net = mv.create_model(name)
    stated, (inferred, _) = net.recipe, infer_architecture(translate(read_checkpoint(net.state_dict())))
    family = {"mvitv2": "mvitv2", "pvt_v2": "pvt_v2", "pvt_": "pvt", "twins": "pvt", "alternet": "alternet"}
    builder = next((builder for start, builder in family.items() if name.startswith(start)), "mvit")
    assert inferred.name == stated.name == builder
    seen = {key: value for key, value in inferred.arguments.items() if key not in UNSEEN}
    assert seen == {key: value for key, value in stated.arguments.items() if key not in UNSEEN}


def test_a_name_of_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(mv.ConfigError, match=r"there is no model 'mvit_b_16x5'; did you mean mvit_b_16x4\?$"):
        mv.create_model("mvit_b_16x5")
    with pytest.raises(mv.ConfigError, match="is a file, not the name of a model; give it as checkpoint="):
        mv.create_model(str(tmp_path))


def test_a_misspelt_argument_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(mv.ConfigError, match=r"model pvt_tiny has no argument num_clases; did you mean num_classes\?$"):
        mv.create_model("pvt_tiny", num_clases=3)
    with pytest.raises(mv.ConfigError, match=r"model pvt_tiny has no argument zzz; expected one of num_classes, "):
        mv.create_model("pvt_tiny", zzz=3)


def test_the_first_published_mvit_b_has_no_pools_of_stride_1() -> None:
    with torch.device("meta"):
        net = mv.create_model("mvit_b_16x4")
    state = to_layout(net.state_dict(), "slowfast")
    last = [key for key in state if re.match(r"blocks\.1[45]\.attn\.(pool|norm)_[kv]\.", key)]
    assert len(last) == 12
    for key in last:
        del state[key]
    recipe, _ = infer_architecture(translate(read_checkpoint({"model_state": state})))
    assert recipe.arguments["pooling"] == Pooling(kv_at_stride_1=False)
    with torch.device("meta"):
        first = recipe.build()
    assert sum(parameter.numel() for parameter in first.parameters()) == 36_599_536


V1 = {
    "published": {"pooling": Pooling(stride_kv=(1, 4, 4))},
    "first_published": {"pooling": Pooling(stride_kv=(1, 4, 4), kv_at_stride_1=False)},
    "kernel_of_stride_plus_one": {"pooling": Pooling(kernel=None, stride_kv=(1, 4, 4))},
    "fixed_kv_stride": {"pooling": Pooling(kernel=None, stride_kv=(1, 4, 4), adaptive_kv_stride=False)},
    "keys_and_values_unpooled": {"pooling": Pooling(stride_kv=None)},
    "large_cubes": {"patch": Patch((3, 8, 8), (2, 8, 8)), "crop_size": 64},
    "two_heads": {"num_heads": 2},
}


@pytest.mark.parametrize("format", ["slowfast", "pytorchvideo", "torchvision"])
@pytest.mark.parametrize("name", V1)
@torch.no_grad()
def test_v1_is_built_from_a_foreign_file(
    name: str, format: str, make_v1: MakeNet, clip_for: ClipFor, tmp_path: Path
) -> None:
    settings = V1[name]
    if format == "pytorchvideo":  # the eps of its release
        settings = settings | {"pooling": replace(settings.get("pooling", V1["published"]["pooling"]), norm_eps=1e-5)}
    net = make_v1(**settings)
    mv.export_checkpoint(net, tmp_path / "net.pth", format=format)
    found = mv.create_model(checkpoint=tmp_path / "net.pth").double().eval()
    expected, arguments = net.recipe.arguments, found.recipe.arguments
    assert arguments | dict.fromkeys(UNSEEN) == expected | dict.fromkeys(UNSEEN)
    # the weights went through float32
    torch.testing.assert_close(found(clip_for(net)), net(clip_for(net)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("expand_in_attention", [True, False])
@pytest.mark.parametrize("class_token", [True, False])
def test_v2_is_built_from_a_foreign_file(
    expand_in_attention: bool, class_token: bool, make_v2: MakeNet, image_v2_settings: dict[str, Any], tmp_path: Path
) -> None:
    for overrides in ({}, image_v2_settings):
        net = make_v2(**overrides | {"expand_in_attention": expand_in_attention, "class_token": class_token})
        mv.export_checkpoint(net, tmp_path / "net.pyth", format="slowfast")
        found = mv.create_model(checkpoint=tmp_path / "net.pyth").recipe
        assert found.arguments | dict.fromkeys(UNSEEN) == net.recipe.arguments | dict.fromkeys(UNSEEN)


pooling_options = st.builds(
    Pooling,
    mode=st.sampled_from(["conv", "max", "avg"]),
    kernel=st.sampled_from([None, (3, 3, 3), (1, 3, 3)]),
    stride_q=st.sampled_from([(1, 2, 2), (2, 2, 2), (1, 1, 1)]),
    stride_kv=st.sampled_from([None, (1, 1, 1), (1, 4, 4), (2, 4, 4)]),
    adaptive_kv_stride=st.booleans(),
    kv_at_stride_1=st.booleans(),
    q_everywhere=st.booleans(),
    residual=st.booleans(),
)


@settings(max_examples=80)
@given(
    pooling=pooling_options,
    depths=st.sampled_from([(2,), (1, 1), (1, 2, 1)]),
    version=st.sampled_from([1, 2]),
    num_classes=st.sampled_from([0, 3]),
)
def test_a_net_is_described_so_that_it_can_be_built_again(
    pooling: Pooling, depths: tuple[int, ...], version: int, num_classes: int
) -> None:
    """Not always by the same arguments: several can make the same net."""
    sizes: dict[str, Any] = {"num_classes": num_classes, "num_frames": 4, "crop_size": 32, "embed_dim": 8}
    with torch.device("meta"):
        net = (mvit if version == 1 else mvitv2)(pooling=pooling, depths=depths, **sizes)
        stated = net.recipe
        again = Recipe.from_metadata(stated.to_metadata(), builders()).build()
    assert repr(again) == repr(net)
    assert again.recipe == stated
    strides = [[getattr(module, "stride", None) for module in one.modules()] for one in (net, again)]
    assert strides[0] == strides[1]


@torch.no_grad()
def test_a_file_of_this_project_makes_the_same_net(
    make_v1: MakeNet, make_v2: MakeNet, image_v2_settings: dict[str, Any], clip_for: ClipFor, tmp_path: Path
) -> None:
    unusual = Pooling(mode="max", kernel=None, stride_kv=(2, 2, 2), adaptive_kv_stride=False)
    nets: list[MViT] = [
        make_v1(pooling=unusual, drop_path_rate=0.3, dropout=0.1, position="none"),
        make_v2(num_classes=0),
        make_v2(head_pool="mean_of_patches"),
        make_v2(pooling=Pooling(stride_kv=(1, 4, 4), q_everywhere=True, residual=True, norm_eps=1e-5)),
        make_v2(**image_v2_settings),
    ]
    for net in nets:
        mv.save_checkpoint(net, tmp_path / "net.safetensors")
        found = mv.create_model(checkpoint=tmp_path / "net.safetensors").double()
        assert found.recipe == net.recipe
        mv.load_checkpoint(found, tmp_path / "net.safetensors")  # in float64
        assert torch.equal(found.eval()(clip_for(net)), tune_for_cpu(net)(clip_for(net)))


@torch.no_grad()
def test_arguments_change_what_a_checkpoint_holds(
    make_v1: MakeNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mv.export_checkpoint(make_v1(), tmp_path / "net.pyth", format="slowfast")
    with caplog.at_level(logging.INFO):
        net = mv.create_model(checkpoint=tmp_path / "net.pyth", num_frames=8, drop_path_rate=0.0)
    assert (net.num_classes, net.num_frames, net.crop_size) == (5, 8, 32)
    assert "resized: position.temporal (1, 2, 12) -> (1, 4, 12), linear" in caplog.text
    assert "assumed as published: stride_q=(1, 2, 2), stride_kv=(1, 4, 4)" in caplog.text
    caplog.clear()
    net = mv.create_model(checkpoint=tmp_path / "net.pyth", num_classes=9)
    assert net.num_classes == 9
    assert caplog.records[-1].levelno == logging.WARNING
    assert "the head is newly initialised: the checkpoint has 5 classes, the model 9" in caplog.text


def test_by_name_the_classes_are_the_checkpoints(make_v1: MakeNet) -> None:
    small: dict[str, Any] = {"depths": (1, 2, 2), "embed_dim": 12, "num_frames": 4, "crop_size": 32}
    net = mv.create_model("mvit_b_16x4", checkpoint=make_v1().state_dict(), **small)
    assert net.num_classes == 5
    assert mv.create_model("mvit_b_16", embed_dim=8).num_classes == 1000
    with pytest.raises(mv.CheckpointError, match="does not fit the model"):
        mv.create_model("mvit_b_16x4", checkpoint=make_v1().state_dict(), **small | {"depths": (1, 1, 2)})
    with pytest.raises(mv.ConfigError, match="needs the name of a model, a checkpoint, or both"):
        mv.create_model()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": Pooling(mode="max", stride_kv=(1, 4, 4))}, "max or average pooling has none"),
        ({"position": "none"}, "without position tables num_frames and crop_size are unknown; give both"),
        ({"position": "joint"}, "a joint position table of 128 cells fits no clip of 224 pixels; give crop_size"),
        ({"pooling": Pooling(kernel=(3, 5, 3))}, None),
    ],
)
def test_what_cannot_be_inferred_is_said(settings: dict[str, Any], message: str | None, make_v1: MakeNet) -> None:
    state = export_state(make_v1(**settings), "slowfast")
    if message is None:
        state["blocks.2.attn.pool_k.weight"] = torch.zeros(12, 1, 3, 3, 3)
        message = "pools of kernels"
    with pytest.raises(mv.CheckpointError, match=rf"the state dict: the architecture cannot be inferred: .*{message}"):
        mv.create_model(checkpoint=state)


@pytest.mark.parametrize("position", ["none", "joint"])
def test_sizes_that_are_not_told_can_be_given(position: str, make_v1: MakeNet) -> None:
    net = make_v1(position=position)
    found = mv.create_model(checkpoint=export_state(net, "slowfast"), num_frames=4, crop_size=32)
    assert found.recipe.arguments["position"] == position


def test_a_tensor_that_belongs_to_no_such_net_is_named(make_v1: MakeNet) -> None:
    state = make_v1().state_dict()
    state["blocks.1.mlp.fc1.weight"] = torch.zeros(97, 24)
    with pytest.raises(mv.CheckpointError, match=r"blocks\.1\.mlp\.fc1\.weight would be \(96, 24\) but is \(97, 24\)"):
        mv.create_model(checkpoint=state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": [10**9]}, r"its metadata have depths \(1000000000,\), it has 5"),
        ({"embed_dim": 16}, "its metadata and its tensors disagree: blocks"),
        ({"widht": 1}, "unexpected keyword argument 'widht'"),
        ({"version": "2"}, r"its metadata describe no model that can be built \(version 2, expected 1\)"),
        ({"pooling": {"kernels": 1}}, "its metadata describe no model that can be built"),
    ],
)
def test_metadata_are_checked(change: dict[str, Any], message: str, make_v1: MakeNet, tmp_path: Path) -> None:
    net, path = make_v1(), tmp_path / "net.safetensors"
    mv.save_checkpoint(net, path)
    metadata = read_checkpoint(path).metadata
    metadata["arguments"] = json.dumps(json.loads(metadata["arguments"]) | change)
    metadata["version"] = change.get("version", metadata["version"])
    save_file(net.state_dict(), path, metadata)
    with pytest.raises(mv.CheckpointError, match=rf"net\.safetensors: .*{message}"):
        mv.create_model(checkpoint=path)


def test_a_net_that_was_changed_is_not_saved_as_one_that_was_not(make_v1: MakeNet, tmp_path: Path) -> None:
    net = make_v1()
    net.head = torch.nn.Linear(48, 5)
    with pytest.raises(mv.CheckpointError, match=r"no builder makes this model: head\.bias would be absent"):
        mv.save_checkpoint(net, tmp_path / "net.safetensors")
