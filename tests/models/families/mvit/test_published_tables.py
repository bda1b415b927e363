"""Parameters and FLOPs of the variants and ablations against the published tables.

Parameters are those of the reference code bases, built and counted. FLOPs are multiply-adds of one view; beside the
matrix products and convolutions that torch counts, the reference counts five operations for each normalised value.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mvit_video as mv
from mvit_video.models import MViT, Pooling
from mvit_video.models.net import multiply_adds


def build(name: str, **overrides) -> tuple[MViT, int]:
    """A net of shapes alone, and its parameters."""
    with torch.device("meta"):
        net: MViT = mv.create_model(name, **overrides).eval()
    return net, sum(parameter.numel() for parameter in net.parameters())


@torch.no_grad()
def count(name: str, **overrides) -> tuple[int, float]:
    """Parameters, and giga multiply-adds of one view."""
    net, num_parameters = build(name, **overrides)
    normalised: list[int] = []
    for module in net.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(lambda module, inputs, output: normalised.append(output.numel()))
    return num_parameters, (multiply_adds(net) + 5 * sum(normalised)) / 1e9


#    name             classes   parameters  GFLOPs
VARIANTS = [
    ("mvit_b_16x4", 400, 36_610_672, 70.80),
    ("mvit_b_32x3", 400, 36_611_440, 170.37),
    ("mvit_b_64x3", 400, 36_612_976, 455.9),
    ("mvit_b24_32x3", 400, 53_115_280, 236.3),
    ("mvit_s_16x4", 400, 26_038_032, 30.05),  # 32.9 published, which no code base reproduces
    ("mvitv2_s_16x4", 400, 34_537_744, 64.46),
    ("mvitv2_b_32x3", 400, 51_230_128, 225.17),
    ("mvitv2_l_40x3", 400, 213_390_112, 2828),
    ("mvit_b_16", 1000, 36_982_600, 7.84),
    ("mvitv2_t", 1000, 24_173_320, 4.70),
    ("mvitv2_s", 1000, 34_870_216, 7.00),
    ("mvitv2_b", 1000, 51_472_744, 10.16),
    ("mvitv2_l", 1000, 217_992_952, 43.87),
]


@pytest.mark.parametrize(("name", "num_classes", "parameters", "gflops"), VARIANTS)
def test_parameters_and_flops(name: str, num_classes: int, parameters: int, gflops: float) -> None:
    found_parameters, found_gflops = count(name, num_classes=num_classes)
    assert found_parameters == parameters
    assert found_gflops == pytest.approx(gflops, rel=0.001)


@pytest.mark.parametrize(
    ("name", "num_classes", "parameters"),
    [
        ("mvit_b24_32x3", 600, 53_269_080),
        ("mvitv2_s_16x4", 174, 34_363_950),
        ("mvitv2_b_32x3", 174, 51_056_334),
        ("mvitv2_l_40x3", 174, 213_129_534),
    ],
)
def test_parameters_with_the_classes_of_other_data_sets(name: str, num_classes: int, parameters: int) -> None:
    assert build(name, num_classes=num_classes)[1] == parameters


def test_widening_in_attention_makes_the_large_image_model_smaller() -> None:
    parameters, gflops = count("mvitv2_l", num_classes=1000, expand_in_attention=True)
    assert parameters / 1e6 == pytest.approx(213.64, abs=0.005)
    assert gflops == pytest.approx(41.91, rel=0.001)


MAX = Pooling(mode="max", kernel=None)


def max_pooling(stride_kv: tuple[int, int, int] | None, adaptive: bool = True) -> dict:
    return {"pooling": Pooling(mode="max", kernel=None, stride_kv=stride_kv, adaptive_kv_stride=adaptive)}


def stages(*depths: int) -> dict:
    return {"depths": depths, **max_pooling((2, 4, 4))}


# MViT paper: label, builder, arguments, published parameters in millions (None: not given) and GFLOPs. Table 14's row
# without pooling of keys and values (130.8) is left out: plain MViT-B without it takes 280.1, in every code base.
ABLATIONS = [
    ("T11 no position", "mvit_b_16x4", {"position": "none", "pooling": MAX}, 36.2, 70.5),
    ("T11 joint position", "mvit_b_16x4", {"position": "joint", "pooling": MAX}, 38.6, 70.5),
    ("T11 separable position", "mvit_b_16x4", {"position": "separable", "pooling": MAX}, 36.5, 70.5),
    ("T13 2-6-6-2", "mvit_b_16x4", stages(2, 6, 6, 2), 29.5, 90.2),
    ("T13 2-4-6-4", "mvit_b_16x4", stages(2, 4, 6, 4), 42.8, 86.9),
    ("T13 2-4-8-2", "mvit_b_16x4", stages(2, 4, 8, 2), 32.2, 88.3),
    ("T13 2-2-8-4", "mvit_b_16x4", stages(2, 2, 8, 4), 45.5, 85.0),
    ("T13 1-2-11-2", "mvit_b_16x4", stages(1, 2, 11, 2), 36.5, 83.6),
    ("T13 2-2-10-2", "mvit_b_16x4", stages(2, 2, 10, 2), 34.9, 86.4),
    ("T14 1x4x4 fixed", "mvit_b_16x4", max_pooling((1, 4, 4), adaptive=False), None, 71.4),
    ("T14 2x4x4 fixed", "mvit_b_16x4", max_pooling((2, 4, 4), adaptive=False), None, 64.3),
    ("T14 2x4x4 adaptive", "mvit_b_16x4", max_pooling((2, 4, 4)), None, 83.6),
    ("T14 1x8x8 adaptive", "mvit_b_16x4", max_pooling((1, 8, 8)), None, 70.5),
    ("T14 2x8x8 adaptive", "mvit_b_16x4", max_pooling((2, 8, 8)), None, 63.7),
    ("A.3 image 8x8", "mvit_b_16", max_pooling((1, 8, 8)), None, 7.2),
    ("A.3 image 4x4", "mvit_b_16", max_pooling((1, 4, 4)), None, 7.8),
    ("A.3 image 2x2", "mvit_b_16", max_pooling((1, 2, 2)), None, 9.0),
    ("A.3 image none", "mvit_b_16", max_pooling(None), None, 10.4),
]


@pytest.mark.slow
def test_ablations(capsys: pytest.CaptureFixture[str]) -> None:
    lines, wrong = [], []
    for label, name, overrides, published_millions, published_gflops in ABLATIONS:
        parameters, gflops = count(name, **overrides)
        lines.append(
            f"{label:24} {parameters / 1e6:8.2f} {published_millions or '':>6} {gflops:8.2f} {published_gflops:6}"
        )
        if published_millions and abs(parameters / 1e6 - published_millions) > 0.1:
            wrong.append(lines[-1])
        if abs(gflops / published_gflops - 1) > 0.017:  # the paper's own rounding and counting; 1.6 % at most
            wrong.append(lines[-1])
    with capsys.disabled():
        print("\n" + f"{'ablation':24} {'params M':>8} {'paper':>6} {'GFLOPs':>8} {'paper':>6}", *lines, sep="\n")
    assert wrong == []


def test_the_row_that_is_not_reproducible_is_what_the_facts_say() -> None:
    _, gflops = count("mvit_b_16x4", **max_pooling(None))
    assert gflops == pytest.approx(280.1, rel=0.005)
