"""Pyramids and plain nets at their public face, and the choices that they share with MViT."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import mvit_video as mv
from mvit_video.models import PVT, Patch, Pooling, Pyramid, VideoNet, cpvt, mvit, mvitv2, pvt, pvt_v2
from tests.fixtures.processes import CompileAndExport

NARROW = {"dims": (8, 16), "num_heads": (1, 2), "strides_kv": ((1, 4, 4), (1, 2, 2)), "mlp_ratios": (2, 2)}
CLIP = {"num_classes": 7, "num_frames": 4, "crop_size": 32, "drop_path_rate": 0.0}
POSITIONS = ["separable", "joint", "relative", "peg", "peg_first_five", "peg_stages", "none", ("joint", "peg")]


def small(make: Callable[..., VideoNet], **overrides) -> VideoNet:
    torch.manual_seed(0)
    settings: dict = dict(CLIP)
    if make in (pvt, pvt_v2):
        pyramid = NARROW | {key: overrides.pop(key) for key in ("uneven", "strides_kv") if key in overrides}
        settings |= {"depths": (2, 1), "pyramid": Pyramid(**pyramid)}
    elif make is cpvt:
        settings |= {"depths": (3,), "embed_dim": 16, "num_heads": 2, "patch": Patch((1, 8, 8), (1, 8, 8))}
    else:
        settings |= {"depths": (2, 1), "embed_dim": 16, "dropout": 0.0}
    return make(**(settings | overrides))


FAMILIES = [mvit, mvitv2, pvt, pvt_v2, cpvt]


@pytest.mark.parametrize("position", POSITIONS, ids=str)
@pytest.mark.parametrize("make", FAMILIES)
def test_every_position_encoding_is_a_choice_everywhere(make: Callable[..., VideoNet], position: str | tuple) -> None:
    net = small(make, position=position)
    assert net(torch.randn(2, 3, 4, 32, 32)).shape == (2, 7)
    net(torch.randn(2, 3, 6, 48, 40)).sum().backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []
    assert net.recipe.arguments["position"] == position or len(net.blocks) < 5  # where two placements are one


@pytest.mark.parametrize("reduction", ["conv", "max", "avg", "sra", "linear_sra"])
@pytest.mark.parametrize("make", FAMILIES)
def test_every_reduction_is_a_choice_everywhere(make: Callable[..., VideoNet], reduction: str) -> None:
    net = small(make, kv_reduction=reduction)
    assert net(torch.randn(2, 3, 4, 40, 48)).shape == (2, 7)
    rebuilt = net.recipe.build()
    assert rebuilt.load_state_dict(net.state_dict())


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("make", [mvit, mvitv2, pvt, cpvt])
def test_the_head_takes_a_class_token_or_the_mean(make: Callable[..., VideoNet], class_token: bool) -> None:
    net = small(make, class_token=class_token).eval()
    features = net.forward_features(torch.randn(2, 3, 4, 32, 32))
    assert features.tokens.shape[1] == features.thw.volume + class_token
    expected = features.tokens[:, 0] if class_token else features.tokens.mean(dim=1)
    torch.testing.assert_close(features.embedding, expected)


def test_reduced_keys_keep_the_grids_of_mvit() -> None:
    """The class token passes by, and where queries are pooled the reduction is still of the grid that comes in."""
    net = small(mvit, kv_reduction="sra", depths=(1, 1), pooling=Pooling(stride_kv=(1, 4, 4))).eval()
    seen = []
    for block in net.blocks:
        block.attn.reduction.register_forward_hook(lambda module, inputs, output: seen.append((inputs[1], output[1])))
    features = net.forward_features(torch.randn(1, 3, 4, 64, 64))
    assert seen == [((2, 16, 16), (2, 4, 4)), ((2, 16, 16), (2, 8, 8))]
    assert features.thw == (2, 8, 8)


@pytest.mark.parametrize("name", ["mvit_b_16x4", "mvitv2_s_16x4", "mvit_b24_32x3"])
def test_named_models_take_spatial_reduction(name: str) -> None:
    with torch.device("meta"):
        net = mv.create_model(name, kv_reduction="sra")
    assert tuple(net.blocks[0].attn.reduction.conv.weight.shape[2:]) == (1, 8, 8)
    assert net.blocks[-1].attn.reduction is None
    assert net.recipe.arguments["pooling"].kv_reduction == "sra"


def permuted(net: VideoNet, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of a clip, and of the same cubes in another order."""
    cubes = clip.unfold(3, 8, 8).unfold(4, 8, 8)  # B 3 T h w 8 8
    order = torch.randperm(cubes[0, 0, ..., 0, 0].numel(), generator=torch.Generator().manual_seed(3))
    shuffled = cubes.flatten(2, 4)[:, :, order].unflatten(2, cubes.shape[2:5])
    return net(clip), net(shuffled.transpose(4, 5).flatten(5).flatten(3, 4))


@pytest.mark.parametrize(("position", "same"), [("none", True), ("peg", False), ("separable", False)])
@torch.no_grad()
def test_only_positions_tell_the_order_of_cubes(position: str, same: bool) -> None:
    net = small(cpvt, position=position, class_token=False).double().eval()
    if position == "separable":
        for table in net.position.parameters():
            torch.nn.init.normal_(table)
    logits, shuffled = permuted(net, torch.randn(1, 3, 4, 32, 32, dtype=torch.float64))
    assert torch.allclose(logits, shuffled, rtol=0, atol=1e-10) == same


@pytest.mark.parametrize("make", [pvt, pvt_v2, cpvt])
@pytest.mark.parametrize("size", [(4, 32, 32), (8, 32, 32), (4, 48, 32), (3, 24, 40), (1, 9, 65)])
def test_any_size_that_the_stem_can_tile(make: Callable[..., VideoNet], size: tuple[int, int, int]) -> None:
    features = small(make).eval().forward_features(torch.randn(2, 3, *size))
    assert features.tokens.shape[:2] == (2, features.thw.volume + (make is not pvt_v2))


@pytest.mark.parametrize("size", [(448, 448), (896, 896), (112, 448), (240, 240), (225, 300)])
@torch.no_grad()
def test_sizes_that_the_published_code_crashes_on_or_gets_wrong(size: tuple[int, int]) -> None:
    net = mv.create_model("pvt_tiny", depths=(1, 1, 1, 1), num_classes=3, pyramid=Pyramid(mlp_ratios=(1, 1, 1, 1)))
    features = net.eval().forward_features(torch.randn(1, 3, *size), stages=True)
    assert [tuple(stage.shape[3:]) for stage in features.stages] == [
        tuple(-(-side // step) for side in size) for step in (4, 8, 16, 32)
    ]


def test_what_does_not_tile_is_cut_only_if_asked_to() -> None:
    clip = torch.randn(1, 3, 4, 37, 37)
    assert small(pvt).eval().forward_features(clip).thw == (4, 5, 5)
    assert small(pvt, uneven="floor").eval().forward_features(clip).thw == (4, 4, 4)


@pytest.mark.parametrize("make", [pvt, pvt_v2])
def test_stages_are_a_pyramid(make: Callable[..., VideoNet]) -> None:
    net, clip = small(make).eval(), torch.randn(2, 3, 4, 32, 64)
    features = net.forward_features(clip, stages=True)
    assert [tuple(stage.shape) for stage in features.stages] == [(2, 8, 4, 8, 16), (2, 16, 4, 4, 8)]
    last = features.stages[-1].flatten(2).mT
    tokens = features.tokens[:, -last.shape[1] :]
    torch.testing.assert_close(last if make is pvt_v2 else net.norm(last), tokens)
    if make is pvt_v2:  # normalised at the end of every stage, as published
        assert features.stages[0].mean(dim=1).abs().max() < 1e-6
    assert net.forward_features(clip).stages == ()


def test_reduction_of_frames_too_has_fewer_keys_in_time() -> None:
    net = small(pvt, strides_kv=((2, 4, 4), (1, 2, 2)))
    seen = []
    net.blocks[0].attn.reduction.register_forward_hook(lambda module, inputs, output: seen.append(output[1]))
    net(torch.randn(1, 3, 4, 32, 32))
    assert seen == [(2, 2, 2)]
    images = small(pvt, num_frames=1)
    clips = small(pvt, strides_kv=((2, 4, 4), (1, 2, 2)))
    report = mv.load_checkpoint(clips, images.state_dict())
    assert [change.how for change in report.resized if "reduction" in change.key] == [
        "inflated, an equal part on each frame"
    ] * 2
    kernel = clips.state_dict()["blocks.0.attn.reduction.conv.weight"]
    torch.testing.assert_close(kernel.sum(dim=2, keepdim=True), images.blocks[0].attn.reduction.conv.weight)


@pytest.mark.parametrize("make", [pvt, pvt_v2, cpvt])
def test_saved_and_built_again(make: Callable[..., VideoNet], tmp_path: Path) -> None:
    net, clip = small(make, drop_path_rate=0.1, dropout=0.2).eval(), torch.randn(1, 3, 4, 32, 32)
    mv.save_checkpoint(net, tmp_path / "net.safetensors")
    found = mv.create_model(checkpoint=tmp_path / "net.safetensors").eval()
    assert torch.equal(found(clip), net(clip))
    assert found.recipe == net.recipe
    with pytest.raises(mv.CheckpointError, match=r"cannot export to slowfast, which has no (PVT|PEG)"):
        mv.export_checkpoint(net, tmp_path / "net.pyth", format="slowfast")


@pytest.mark.parametrize("make", [pvt, pvt_v2, cpvt])
def test_a_head_is_replaced_and_removed(make: Callable[..., VideoNet]) -> None:
    net, clip = small(make).eval(), torch.randn(2, 3, 4, 32, 32)
    net.reset_classifier(3)
    assert (net.num_classes, net(clip).shape) == (3, (2, 3))
    net.reset_classifier(0)
    assert torch.equal(net(clip), net.forward_features(clip).embedding)
    assert small(make, num_classes=0)(clip).shape == (2, net.embed_dim)


@pytest.mark.parametrize("make", [pvt, pvt_v2, cpvt])
def test_activation_checkpointing_changes_nothing_but_memory(make: Callable[..., VideoNet]) -> None:
    net, clip = small(make, drop_path_rate=0.5), torch.randn(2, 3, 4, 32, 32)
    gradients = []
    for net.activation_checkpointing in (False, True):
        torch.manual_seed(0)
        net.zero_grad()
        net(clip).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in net.parameters()])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_images_come_with_and_without_a_time_axis() -> None:
    net, image = small(pvt, num_frames=1).eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(net(image), net(image[:, :, None]))
    with pytest.raises(ValueError, match=r"expected clips of shape \(B, 3, T, H, W\), got \(2, 1, 32, 32\)"):
        net.check_clip(image[:, :1])


def test_initialisation_is_that_of_the_published_code() -> None:
    """PVT leaves PyTorch's own in its convolutions; those of PVTv2 and Twins are normal, with biases of zero."""
    first, second, twins = small(pvt), small(pvt_v2), small(pvt, position="peg_stages", class_token=False)
    assert first.blocks[0].attn.reduction.conv.bias.abs().max() > 0
    for net in (second, twins):
        conv = net.blocks[0].attn.reduction.conv
        assert conv.bias.abs().max() == 0
        assert conv.weight.std().item() == pytest.approx((2 / (8 * 16)) ** 0.5, rel=0.1)
    assert twins.blocks[0].peg.conv.weight.std().item() == pytest.approx((2 / 27) ** 0.5, rel=0.15)
    assert (first.norm.eps, first.blocks[0].norm1.eps, first.patch_embed.norm.eps) == (1e-6, 1e-6, 1e-5)
    assert first.blocks[0].attn.reduction.norm.eps == 1e-5


@pytest.mark.parametrize(
    ("make", "overrides", "message"),
    [
        (pvt, {"depths": (1,)}, r"depths must give each of 2 stages a block, got \(1,\)"),
        (mvit, {"position": ("joint", "separable")}, "position may have one of separable, joint, got joint, separable"),
        (cpvt, {"position": ("peg", "peg_stages")}, "position may have one of peg, .*, got peg, peg_stages"),
        (pvt, {"position": ("none", "peg")}, "position none goes with no other, got none, peg"),
    ],
)
def test_impossible_settings_are_named(make: Callable[..., VideoNet], overrides: dict, message: str) -> None:
    with pytest.raises(mv.ConfigError, match=message):
        small(make, **overrides)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": (1,)}, r"pyramid\.num_heads must have one for each of 4 dims, got \(1,\)"),
        ({"num_heads": (1, 2, 3, 8)}, r"dims must be multiples of pyramid\.num_heads, got 320 and 3"),
        ({"strides_kv": ((1, 0, 8),) * 4}, r"pyramid\.strides_kv must be at least 1, got \(\(1, 0, 8\)"),
    ],
)
def test_impossible_pyramids_are_named(settings: dict, message: str) -> None:
    with pytest.raises(mv.ConfigError, match=message):
        Pyramid(**settings)


UNKNOWN_NAMES = """
import mvit_video as mv
from mvit_video.models import Pyramid
for make in (
    lambda: mv.create_model("mvit_b_16x4", position="learned"),
    lambda: mv.create_model("mvit_b_16x4", kv_reduction="pvt"),
    lambda: mv.create_model("mvit_b_16x4", head_pool="mean"),
    lambda: mv.create_model("pvt_tiny", kv_reduction="mean"),
    lambda: Pyramid(uneven="crop"),
):
    try:
        make()
    except mv.ConfigError as error:
        print(error)
"""


def test_unknown_names_are_refused_with_the_known_names() -> None:
    """In a process of its own: the tests' type checks would refuse them first."""
    done = subprocess.run([sys.executable, "-c", UNKNOWN_NAMES], capture_output=True, text=True, timeout=600)
    assert done.stdout.splitlines() == [
        "position must be one or more of separable, joint, relative, peg, peg_first_five, peg_stages, none, "
        "got 'learned'",
        "pooling.kv_reduction must be one of conv, max, avg, sra, linear_sra, got 'pvt'",
        "head_pool must be one of cls, mean_of_patches, gap, got 'mean'",
        "pyramid.kv_reduction must be one of conv, max, avg, sra, linear_sra, got 'mean'",
        "pyramid.uneven=crop, expected pad or floor",
    ], done.stderr


def test_convolutions_have_no_place_for_a_class_token() -> None:
    with pytest.raises(mv.ConfigError, match="class_token must be false in a net with convolutions"):
        PVT(
            (1,) * 4, Pyramid(), num_classes=2, num_frames=1, crop_size=32, patch=Patch((1, 4, 4), (1, 4, 4)),
            position="none", convolutional=True,
        )  # fmt: skip


NETS = """
from mvit_video.models import Pyramid, alternet, mvit, pvt, pvt_v2
CLIP = dict(num_classes=7, num_frames=4, crop_size=32, drop_path_rate=0.0, dropout=0.0)
pyramid = Pyramid((8, 16), (1, 2), ((1, 4, 4), (1, 2, 2)), (2, 2))
nets = (
    pvt(depths=(1, 1), pyramid=pyramid, **CLIP),
    pvt_v2(depths=(1, 1), pyramid=pyramid, kv_reduction="linear_sra", **CLIP),
    mvit(depths=(1, 1), embed_dim=16, kv_reduction="sra", position="peg_stages", **CLIP),
    alternet(depths=(1, 1, 1, 2), num_pairs=(0, 0, 0, 1), block="basic", **CLIP),
)
"""


@pytest.mark.slow
def test_one_graph_under_compile_and_a_dynamic_batch_under_export(compile_and_export: CompileAndExport) -> None:
    compile_and_export(NETS)
