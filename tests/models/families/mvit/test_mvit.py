"""MViT at its public face: sizes, modes, names, messages."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import mvit_video as mv
from mvit_video.models import MViT, Patch, Pooling, mvit, mvitv2, mvitv2_t
from tests.fixtures.processes import CompileAndExport

SMALL = {"num_frames": 4, "crop_size": 32, "depths": (1, 1, 1), "embed_dim": 16, "num_classes": 7}


def small(**overrides) -> MViT:
    torch.manual_seed(0)
    return mvit(**(SMALL | overrides))


def test_a_model_by_name_is_its_builder() -> None:
    video = ["mvit_b24_32x3", "mvit_b_16x4", "mvit_b_32x3", "mvit_b_64x3", "mvit_s_16x4"]
    video_v2 = ["mvitv2_b_32x3", "mvitv2_l_40x3", "mvitv2_s_16x4"]
    images = ["mvit_b_16", "mvitv2_b", "mvitv2_l", "mvitv2_s", "mvitv2_t"]
    assert [name for name in mv.list_models() if "mvit" in name] == sorted(video + video_v2 + images)
    assert mv.list_models("mvitv2_*x*") == video_v2
    with torch.device("meta"):
        net = mv.create_model("mvit_b_32x3", num_classes=10, crop_size=160)
    assert (net.num_classes, net.num_frames, net.crop_size) == (10, 32, 160)


def test_unknown_names_and_arguments_are_named() -> None:
    with pytest.raises(mv.ConfigError, match=r"no model 'mvit_b_16x5'; did you mean mvit_b_16x4\?"):
        mv.create_model("mvit_b_16x5")
    with pytest.raises(mv.ConfigError, match=r"mvit_b_16x4.*droput"):
        mv.create_model("mvit_b_16x4", droput=0.1)


def test_logits_have_no_hidden_softmax_in_either_mode() -> None:
    net, clip = small(dropout=0.0, drop_path_rate=0.0), torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        trained, evaluated = net.train()(clip), net.eval()(clip)
    assert evaluated.shape == (2, 7)
    torch.testing.assert_close(trained, evaluated)
    assert not torch.allclose(evaluated.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("position", ["separable", "joint", "none"])
@pytest.mark.parametrize("size", [(4, 32, 32), (8, 32, 32), (4, 48, 32), (3, 24, 40), (1, 7, 65)])
def test_any_size_that_the_stem_can_tile(size: tuple[int, int, int], position: str) -> None:
    net = small(position=position).eval()
    with torch.no_grad():
        features = net.forward_features(torch.randn(2, 3, *size))
    assert features.embedding.shape == (2, 64)
    assert features.tokens.shape == (2, 1 + features.thw.volume, 64)
    assert torch.equal(features.embedding, features.tokens[:, 0])


def test_constant_tables_stay_constant_when_resized() -> None:
    net = small()
    for table in net.position.parameters():
        torch.nn.init.constant_(table, 0.25)
    rows = net.position(mv.THW(5, 11, 6))
    assert rows.shape == (1, 1 + 5 * 11 * 6, 16)
    torch.testing.assert_close(rows[:, 1:], torch.full_like(rows[:, 1:], 0.5))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 4, 32, 32), r"expected clips of shape \(B, 3, T, H, W\), got \(3, 4, 32, 32\)"),
        ((1, 4, 4, 32, 32), r"got \(1, 4, 4, 32, 32\)"),
    ],
)
def test_a_clip_of_the_wrong_rank_or_channels_is_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small().check_clip(torch.zeros(shape))


def test_a_clip_smaller_than_a_cube_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4, 4\) is smaller than one cube of \(3, 8, 8\)"):
        small(patch=Patch((3, 8, 8), (2, 8, 8))).eval()(torch.zeros(1, 3, 4, 4, 4))


def test_loss_at_initialisation_is_chance() -> None:
    net, clip = small(num_classes=100, dropout=0.0), torch.randn(32, 3, 4, 32, 32)
    loss = F.cross_entropy(net(clip), torch.arange(32))
    assert loss.item() == pytest.approx(math.log(100), rel=0.01)


def test_one_batch_can_be_learned_by_heart() -> None:
    net, clip, label = small(dropout=0.0, drop_path_rate=0.0), torch.randn(7, 3, 4, 32, 32), torch.arange(7)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(40):
        loss = F.cross_entropy(net(clip), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(net.eval()(clip).argmax(dim=1), label)


def test_every_parameter_gets_a_gradient() -> None:
    net = small()
    net(torch.randn(2, 3, 4, 32, 32)).sum().backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []


def test_drop_path_grows_linearly_to_the_last_block() -> None:
    rates = [block.drop_path.rate for block in small(depths=(1, 2, 1, 1), crop_size=64, drop_path_rate=0.4).blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_keys_of_the_state_dict_are_a_contract() -> None:
    """Files of weights that users keep depend on these names: adding is fine, renaming needs a converter."""
    with torch.device("meta"):
        found = sorted(mv.create_model("mvit_b_16x4").state_dict())
    assert found == (Path(__file__).parent / "mvit_b_16x4_keys.txt").read_text().split()


def small_v2(**overrides) -> MViT:
    torch.manual_seed(0)
    return mvitv2(**(SMALL | overrides))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [small, small_v2])
def test_half_precision_follows_float32(make: Callable[..., MViT], dtype: torch.dtype) -> None:
    net, clip = make().eval(), torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", dtype):
        half = net(clip)
    with torch.no_grad():
        full = net(clip)
    torch.testing.assert_close(half.float(), full, rtol=0, atol=0.02)


@pytest.mark.parametrize("size", [(4, 32, 32), (8, 32, 32), (4, 48, 32), (3, 24, 40), (1, 7, 65)])
def test_v2_takes_any_size_that_the_stem_can_tile(size: tuple[int, int, int]) -> None:
    with torch.no_grad():
        features = small_v2().eval().forward_features(torch.randn(2, 3, *size))
    assert features.tokens.shape == (2, 1 + features.thw.volume, 64)


@pytest.mark.parametrize("make", [small, small_v2])
def test_stages_are_maps_whose_last_one_holds_the_final_tokens(make: Callable[..., MViT]) -> None:
    net, clip = make(depths=(1, 2, 1)).eval(), torch.randn(2, 3, 4, 32, 64)
    with torch.no_grad():
        features = net.forward_features(clip, stages=True)
    assert [tuple(stage.shape[2:]) for stage in features.stages] == [(2, 8, 16), (2, 4, 8), (2, 2, 4)]
    widths = (32, 64, 64) if make is small else (16, 32, 64)  # v1 widens in the last block of a stage
    assert tuple(stage.shape[1] for stage in features.stages) == widths
    last = features.stages[-1].flatten(2).mT
    torch.testing.assert_close(net.norm(last), features.tokens[:, 1:])
    assert net.forward_features(clip).stages == ()


def test_without_classes_the_net_is_a_backbone() -> None:
    net, clip = small(num_classes=0).eval(), torch.randn(2, 3, 4, 32, 32)
    assert torch.equal(net(clip), net.forward_features(clip).embedding)
    net.head = torch.nn.Linear(64, 3)
    assert net(clip).shape == (2, 3)


def test_an_image_net_takes_images_with_and_without_a_time_axis() -> None:
    net = mvitv2_t(crop_size=32, embed_dim=16, num_classes=5, depths=(1, 1, 1)).eval()
    image = torch.randn(2, 3, 32, 32)
    assert net.class_token is None
    torch.testing.assert_close(net(image), net(image[:, :, None]))
    features = net.forward_features(image)
    torch.testing.assert_close(features.embedding, features.tokens.mean(dim=1))


@pytest.mark.parametrize("position", ["separable", "joint"])
def test_without_a_class_token_the_head_takes_the_mean(position: str) -> None:
    net, clip = small(class_token=False, position=position).eval(), torch.randn(2, 3, 4, 32, 32)
    features = net.forward_features(clip)
    assert features.tokens.shape[1] == features.thw.volume
    torch.testing.assert_close(features.embedding, features.tokens.mean(dim=1))
    assert net(torch.randn(2, 3, 6, 48, 32)).shape == (2, 7)


@pytest.mark.parametrize("make", [small, small_v2])
def test_activation_checkpointing_changes_nothing_but_memory(make: Callable[..., MViT]) -> None:
    net, clip = make(drop_path_rate=0.5), torch.randn(2, 3, 4, 32, 32)
    gradients = []
    for net.activation_checkpointing in (False, True):
        torch.manual_seed(0)
        net.zero_grad()
        net(clip).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in net.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed, rtol=0, atol=0)


NETS = """
from mvit_video.models import mvit, mvitv2
small = dict(num_classes=7, num_frames=4, crop_size=32, depths=(1, 1), embed_dim=16, dropout=0.0, drop_path_rate=0.0)
nets = mvit(**small), mvitv2(**small)
"""


@pytest.mark.slow
def test_one_graph_under_compile_and_a_dynamic_batch_under_export(compile_and_export: CompileAndExport) -> None:
    compile_and_export(NETS)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_classes": -1}, "num_classes must be at least 0, got -1"),
        ({"crop_size": 0}, "crop_size must be at least 1, got 0"),
        ({"depths": ()}, r"depths must give every stage a block, got \(\)"),
        ({"num_heads": 5}, "embed_dim must be a multiple of num_heads, got 16 and 5"),
    ],
)
def test_impossible_settings_are_named(overrides: dict, message: str) -> None:
    with pytest.raises(mv.ConfigError, match=message):
        small(**overrides)


def test_impossible_pools_and_patches_are_named() -> None:
    with pytest.raises(mv.ConfigError, match=r"pooling\.kernel must be odd.*\(2, 2, 2\)"):
        Pooling(kernel=(2, 2, 2))
    with pytest.raises(mv.ConfigError, match=r"pooling\.stride_kv must be at least 1, got \(0, 8, 8\)"):
        Pooling(stride_kv=(0, 8, 8))
    with pytest.raises(mv.ConfigError, match=r"patch\.kernel and patch\.stride must be at least 1"):
        Patch(stride=(0, 4, 4))


def test_average_pooling_takes_clips_shorter_than_its_kernel() -> None:
    net = small(pooling=Pooling(mode="avg", stride_kv=(1, 4, 4))).eval()
    assert net(torch.randn(1, 3, 2, 32, 32)).shape == (1, 7)


def test_a_head_is_replaced_and_removed() -> None:
    net, clip = small(num_classes=5).eval(), torch.randn(2, 3, 4, 32, 32)
    net.reset_classifier(7)
    assert (net.num_classes, net(clip).shape) == (7, (2, 7))
    net.reset_classifier(0)
    assert net.num_classes == 0
    assert torch.equal(net(clip), net.forward_features(clip).embedding)
