"""Exported, loaded strictly and run in the reference packages, and loaded back: the same outputs, the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import video as torchvision_builders

import mvit_video as mv
from mvit_video.models import MViT, Pooling
from tests.fixtures.nets import ClipFor, MakeNet, MakePeer, Randomise

V1_POOLINGS = {
    "published": Pooling(stride_kv=(1, 4, 4)),
    "kernel_of_stride_plus_one": Pooling(kernel=None, stride_kv=(1, 4, 4)),
    "first_published": Pooling(stride_kv=(1, 4, 4), kv_at_stride_1=False),
}


def assert_same_weights(found: MViT, expected: MViT) -> None:
    own, state = found.state_dict(), expected.state_dict()
    assert own.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(own[key], value), key


@torch.no_grad()
def assert_same_outputs(ours: MViT, theirs: Any, clip: torch.Tensor) -> None:
    torch.testing.assert_close(ours(clip), theirs(clip), rtol=0, atol=1e-9)


def assert_comes_back(net: MViT, fresh: MViT, path: Path, format: str, clip: torch.Tensor) -> None:
    assert not torch.equal(net(clip), fresh(clip))
    report = mv.load_checkpoint(fresh, path)
    assert report.format == format
    assert (len(report.loaded), report.resized) == (len(net.state_dict()), [])
    assert_same_weights(fresh, net)
    assert torch.equal(net(clip), fresh(clip))


def disturbed(net: MViT) -> MViT:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1).add_(0.01)
    return net


@pytest.mark.parametrize("name", V1_POOLINGS)
@torch.no_grad()
def test_v1_to_torchvision_and_back(
    name: str, make_v1: MakeNet, peer_in_torchvision: MakePeer, clip_for: ClipFor, tmp_path: Path
) -> None:
    net = make_v1(pooling=V1_POOLINGS[name])
    mv.export_checkpoint(net, tmp_path / "net.pth", format="torchvision")
    peer = peer_in_torchvision(net)
    peer.load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True), strict=True)
    assert_same_outputs(net, peer, clip_for(net))
    fresh = disturbed(make_v1(pooling=V1_POOLINGS[name]))
    assert_comes_back(net, fresh, tmp_path / "net.pth", "torchvision", clip_for(net))


@pytest.mark.parametrize("expand_in_attention", [True, False])
@torch.no_grad()
def test_v2_to_torchvision_and_back(
    expand_in_attention: bool, make_v2: MakeNet, peer_in_torchvision: MakePeer, clip_for: ClipFor, tmp_path: Path
) -> None:
    net = make_v2(expand_in_attention=expand_in_attention)
    mv.export_checkpoint(net, tmp_path / "net.pth", format="torchvision")
    peer = peer_in_torchvision(net)
    peer.load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True), strict=True)
    assert_same_outputs(net, peer, clip_for(net))
    fresh = disturbed(make_v2(expand_in_attention=expand_in_attention))
    assert_comes_back(net, fresh, tmp_path / "net.pth", "torchvision", clip_for(net))


@torch.no_grad()
def test_v2_of_a_single_frame_gets_tables_of_time_in_torchvision(
    make_v2: MakeNet, peer_in_torchvision: MakePeer, clip_for: ClipFor, tmp_path: Path
) -> None:
    net = make_v2(num_frames=2)
    mv.export_checkpoint(net, tmp_path / "net.pth", format="torchvision")
    peer = peer_in_torchvision(net)
    peer.load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True), strict=True)
    assert_same_outputs(net, peer, clip_for(net))


PYTORCHVIDEO = {
    "published": {"pooling": Pooling(stride_kv=(1, 4, 4))},
    "kernel_of_stride_plus_one": {"pooling": Pooling(kernel=None, stride_kv=(1, 4, 4))},
    "max_pooling": {"pooling": Pooling(mode="max", kernel=None, stride_kv=(1, 4, 4))},
    "joint_positions": {"position": "joint"},
}


@pytest.mark.parametrize("name", [*PYTORCHVIDEO, "image", "image_with_joint_positions"])
@torch.no_grad()
def test_v1_to_pytorchvideo_and_back(
    name: str,
    make_v1: MakeNet,
    peer_in_pytorchvideo: MakePeer,
    clip_for: ClipFor,
    image_settings: dict[str, Any],
    tmp_path: Path,
) -> None:
    settings = PYTORCHVIDEO.get(name, image_settings)
    if name == "image_with_joint_positions":
        settings = settings | {"position": "joint"}
    net = make_v1(**settings)
    mv.export_checkpoint(net, tmp_path / "net.pyth", format="pytorchvideo")
    peer = peer_in_pytorchvideo(net)
    peer.load_state_dict(torch.load(tmp_path / "net.pyth", weights_only=True)["model_state"], strict=True)
    clip = clip_for(net)
    with torch.no_grad():
        theirs = peer(clip.squeeze(2) if net.num_frames == 1 else clip)
    torch.testing.assert_close(net(clip), theirs, rtol=0, atol=1e-9)
    assert_comes_back(net, disturbed(make_v1(**settings)), tmp_path / "net.pyth", "pytorchvideo", clip)


@torch.no_grad()
def test_a_file_of_pytorchvideo_keeps_the_eps_of_its_release(
    make_v1: MakeNet,
    peer_in_pytorchvideo: MakePeer,
    clip_for: ClipFor,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer = peer_in_pytorchvideo(make_v1(pooling=Pooling(stride_kv=(1, 4, 4), norm_eps=1e-5)))
    for parameter in peer.parameters():
        parameter.add_(0.01)
    found = mv.create_model(checkpoint={"model_state": peer.state_dict()}).double().eval()
    assert "pooling.norm_eps is not in the file; the net has 1e-05 (as in 0.1.5)" in caplog.text
    mv.load_checkpoint(found, peer.state_dict())  # in float64
    clip = clip_for(found)
    assert_same_outputs(found, peer, clip)
    small: dict[str, Any] = {"depths": (1, 2, 2), "embed_dim": 12, "num_frames": 4, "crop_size": 32}
    named = mv.create_model("mvit_b_16x4", checkpoint=peer.state_dict(), **small)
    assert named.recipe.arguments["pooling"].norm_eps == 1e-5
    mv.save_checkpoint(found, tmp_path / "net.safetensors")
    again = mv.create_model(checkpoint=tmp_path / "net.safetensors")
    assert again.recipe.arguments["pooling"].norm_eps == 1e-5
    caplog.clear()
    mv.export_checkpoint(found, tmp_path / "net.pyth", format="slowfast")
    assert "the norms after pools have eps 1e-05 here and 1e-06 in slowfast" in caplog.text


@pytest.mark.parametrize("peer", ["torchvision", "pytorchvideo"])
@torch.no_grad()
def test_net_without_positions_gets_tables_of_zero(
    peer: str,
    make_v1: MakeNet,
    peer_in_torchvision: MakePeer,
    peer_in_pytorchvideo: MakePeer,
    clip_for: ClipFor,
    tmp_path: Path,
) -> None:
    net = make_v1(position="none")
    mv.export_checkpoint(net, tmp_path / "net.pth", format=peer)
    state = torch.load(tmp_path / "net.pth", weights_only=True)
    theirs = (peer_in_torchvision if peer == "torchvision" else peer_in_pytorchvideo)(net)
    theirs.load_state_dict(state.get("model_state", state), strict=True)
    assert_same_outputs(net, theirs, clip_for(net))


@pytest.mark.parametrize(
    "settings", [{}, {"position": "joint"}, {"position": "none"}, *map(dict, PYTORCHVIDEO.values())]
)
@torch.no_grad()
def test_v1_to_slowfast_and_back(settings: dict[str, Any], make_v1: MakeNet, clip_for: ClipFor, tmp_path: Path) -> None:
    net = make_v1(**settings)
    mv.export_checkpoint(net, tmp_path / "net.pyth", format="slowfast")
    assert list(torch.load(tmp_path / "net.pyth", weights_only=True)) == ["model_state"]
    assert_comes_back(net, disturbed(make_v1(**settings)), tmp_path / "net.pyth", "slowfast", clip_for(net))


@pytest.mark.parametrize("images", [False, True])
@torch.no_grad()
def test_v2_to_slowfast_and_back(
    images: bool, make_v2: MakeNet, clip_for: ClipFor, image_v2_settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = image_v2_settings if images else {}
    net = make_v2(**settings)
    mv.export_checkpoint(net, tmp_path / "net.pyth", format="slowfast")
    kernel = torch.load(tmp_path / "net.pyth", weights_only=True)["model_state"]["patch_embed.proj.weight"]
    assert kernel.ndim == (4 if images else 5)
    assert_comes_back(net, disturbed(make_v2(**settings)), tmp_path / "net.pyth", "slowfast", clip_for(net))


@torch.no_grad()
def test_images_of_pytorchvideo_fill_a_net_of_joint_positions_exactly(
    make_v1: MakeNet, clip_for: ClipFor, image_settings: dict[str, Any], tmp_path: Path
) -> None:
    separable, joint = make_v1(**image_settings), make_v1(**image_settings, position="joint")
    mv.export_checkpoint(separable, tmp_path / "net.pyth", format="pytorchvideo")
    report = mv.load_checkpoint(joint, tmp_path / "net.pyth")
    assert "separable positions added up to a joint table" in report.notes
    assert torch.equal(joint(clip_for(joint)), separable(clip_for(joint)))


@pytest.mark.parametrize(
    ("settings", "format", "message"),
    [
        ({"position": "joint"}, "torchvision", "cannot export to torchvision, which has no joint positions"),
        ({"num_classes": 0}, "torchvision", "which has no nets without a head"),
        ({"num_classes": 0}, "slowfast", "which has no nets without a head"),
        ({"pooling": Pooling(mode="max", stride_kv=(1, 4, 4))}, "torchvision", "which has no max pooling"),
    ],
)
def test_what_another_package_lacks_is_refused(
    settings: dict[str, Any], format: str, message: str, make_v1: MakeNet, tmp_path: Path
) -> None:
    with pytest.raises(mv.CheckpointError, match=message):
        mv.export_checkpoint(make_v1(**settings), tmp_path / "net.pth", format=format)
    assert not list(tmp_path.iterdir())


def test_what_another_package_lacks_of_v2_is_refused(
    make_v2: MakeNet, image_v2_settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(mv.CheckpointError, match="pytorchvideo, which has no MViTv2"):
        mv.export_checkpoint(make_v2(), tmp_path / "net.pth", format="pytorchvideo")
    with pytest.raises(mv.CheckpointError, match="no nets without a class token"):
        mv.export_checkpoint(make_v2(**image_v2_settings), tmp_path / "net.pth", format="torchvision")
    with pytest.raises(mv.ConfigError, match="slowfast, pytorchvideo, torchvision, got 'timm'"):
        mv.export_checkpoint(make_v2(), tmp_path / "net.pth", format="timm")


FULL_SIZE = ["mvit_v1_b", "mvit_v2_s", "mvit_base_16x4", "mvit_base_32x3", "mvit_base_16"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
@torch.no_grad()
def test_nets_of_the_reference_packages_are_built_from_their_weights_alone(name: str, randomise: Randomise) -> None:
    is_torchvision = name.startswith("mvit_v")
    builders = torchvision_builders if is_torchvision else pytest.importorskip("pytorchvideo.models.hub")
    theirs = randomise(getattr(builders, name)())
    for part, module in theirs.named_modules():
        if part.endswith(("norm_q", "norm_k", "norm_v")):
            module.eps = 1e-6
    ours = mv.create_model(checkpoint=theirs.state_dict())
    assert isinstance(ours, MViT)
    clip = torch.randn(1, 3, ours.num_frames, 224, 224, generator=torch.Generator().manual_seed(1))
    expected = theirs(clip.squeeze(2) if ours.num_frames == 1 else clip)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours.eval()(clip), expected, rtol=0, atol=1e-4)
