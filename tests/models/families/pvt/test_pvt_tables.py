"""Parameters and FLOPs of PVT, PVTv2, Twins-PCPVT and CPVT against the published tables.

Parameters are those of the published code, built and counted; for CPVT, whose code is not published, those of its
description. FLOPs are multiply-adds with the products of attention, which the papers' own figures partly leave out.
"""

from __future__ import annotations

import pytest
import torch

import mvit_video as mv
from mvit_video.models import VideoNet
from mvit_video.models.net import multiply_adds

#    name                  parameters  GFLOPs
IMAGES = [
    ("pvt_tiny", 13_229_288, 1.933),
    ("pvt_small", 24_485_864, 3.816),
    ("pvt_medium", 44_208_104, 6.659),
    ("pvt_large", 61_369_320, 9.814),
    ("pvt_huge", 304_945_512, 50.49),
    ("twins_pcpvt_small", 24_106_216, 3.81),
    ("twins_pcpvt_base", 43_828_456, 6.65),
    ("twins_pcpvt_large", 60_989_672, 9.81),
    ("cpvt_ti", 5_681_512, None),
    ("cpvt_ti_plus", 5_689_192, None),
    ("cpvt_ti_gap", 5_689_000, None),
    ("cpvt_s", 21_978_856, None),
    ("cpvt_s_plus", 21_994_216, None),
    ("cpvt_s_gap", 21_993_832, None),
    ("cpvt_b", 86_424_040, None),
    ("cpvt_b_plus", 86_454_760, None),
    ("cpvt_b_gap", 86_453_992, None),
]


def build(name: str, **overrides) -> VideoNet:
    with torch.device("meta"):
        return mv.create_model(name, **overrides).eval()


def count(net: VideoNet) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def gflops(net: VideoNet) -> float:
    return multiply_adds(net) / 1e9


@pytest.mark.parametrize(("name", "parameters", "published_gflops"), IMAGES)
def test_of_images(name: str, parameters: int, published_gflops: float | None) -> None:
    net = build(name)
    assert count(net) == parameters
    if published_gflops:
        assert gflops(net) == pytest.approx(published_gflops, rel=0.002)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("b0", 3.667), ("b1", 14.009), ("b2", 25.363), ("b2_li", 22.554), ("b3", 45.239), ("b4", 62.556), ("b5", 81.956)],
)
def test_pvt_v2(name: str, millions: float) -> None:
    assert count(build(f"pvt_v2_{name}")) / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "parameters"), [("cpvt_ti", 5_717_416), ("cpvt_s", 22_050_664), ("cpvt_b", 86_567_656)]
)
def test_with_a_learned_table_cpvt_is_deit(name: str, parameters: int) -> None:
    assert count(build(name, position="joint")) == parameters


@pytest.mark.parametrize(
    ("name", "num_frames", "joint"),
    [("pvt_tiny", 8, 19.7), ("pvt_small", 8, 38.5), ("pvt_tiny", 16, 49.2), ("pvt_small", 16, 95.3)],
)
def test_joint_attention_over_clips(name: str, num_frames: int, joint: float) -> None:
    assert gflops(build(name, num_frames=num_frames)) == pytest.approx(joint, rel=0.01)


def test_a_clip_stem_of_two_frames_halves_the_grid_in_time() -> None:
    patch = mv.models.Patch((2, 4, 4), (2, 4, 4))
    assert gflops(build("pvt_tiny", num_frames=16, patch=patch)) == pytest.approx(19.7, rel=0.02)


@pytest.mark.parametrize("name", ["mvit_b_16x4", "mvitv2_s_16x4", "pvt_small", "cpvt_ti"])
def test_a_class_token_costs_its_rows_and_nothing_else(name: str) -> None:
    """Of MViT: the token and its row in separable tables."""
    difference = count(build(name)) - count(build(name, class_token=False))
    assert difference == {"mvit_b_16x4": 2 * 96, "mvitv2_s_16x4": 96, "pvt_small": 2 * 512, "cpvt_ti": 192}[name]


def test_spatial_reduction_costs_what_its_formula_says() -> None:
    """A dense kernel, its bias, and the norm, in place of kernels and norms of two pools per block that pools."""
    with_sra, without = (
        count(build("pvt_tiny", kv_reduction=kind, pyramid=mv.models.Pyramid(strides_kv=strides)))
        for kind, strides in (("sra", ((1, 8, 8), (1, 4, 4), (1, 2, 2), (1, 1, 1))), ("sra", ((1, 1, 1),) * 4))
    )
    blocks = [(64, 8), (128, 4), (320, 2)]
    assert with_sra - without == sum(2 * (ratio**2 * dim**2 + 3 * dim) for dim, ratio in blocks)
