"""MViT at its public face: sizes, modes, names, messages."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import mvit_video as mv
from mvit_video.models import MViT, Patch, mvit

SMALL = {"num_frames": 4, "crop_size": 32, "depths": (1, 1, 1), "embed_dim": 16, "num_classes": 7}


def small(**overrides) -> MViT:
    torch.manual_seed(0)
    return mvit(**(SMALL | overrides))


def test_a_model_by_name_is_its_builder() -> None:
    video = ["mvit_b24_32x3", "mvit_b_16x4", "mvit_b_32x3", "mvit_b_64x3", "mvit_s_16x4"]
    video_v2 = ["mvitv2_b_32x3", "mvitv2_l_40x3", "mvitv2_s_16x4"]
    images = ["mvit_b_16", "mvitv2_b", "mvitv2_l", "mvitv2_s", "mvitv2_t"]
    assert mv.list_models() == sorted(video + video_v2 + images)
    assert mv.list_models("mvitv2_*x*") == video_v2
    with torch.device("meta"):
        net = mv.create_model("mvit_b_32x3", num_classes=10, crop_size=160)
    assert (net.num_classes, net.num_frames, net.crop_size) == (10, 32, 160)


def test_unknown_names_and_arguments_are_named() -> None:
    with pytest.raises(mv.ConfigError, match=r"no model 'mvit_x'.*mvit_b_16x4"):
        mv.create_model("mvit_x")
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_follows_float32(dtype: torch.dtype) -> None:
    net, clip = small().eval(), torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", dtype):
        half = net(clip)
    with torch.no_grad():
        full = net(clip)
    torch.testing.assert_close(half.float(), full, rtol=0, atol=0.02)


def test_fullgraph_export_has_no_graph_break() -> None:
    net, clip = small().eval(), torch.randn(2, 3, 4, 32, 32)
    exported = torch.export.export(net, (clip,)).module()
    torch.testing.assert_close(exported(clip), net(clip))
