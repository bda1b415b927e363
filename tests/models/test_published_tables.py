"""Parameters and FLOPs of the variants against the published tables.

Parameters are exact: those of the reference code bases, built and counted. FLOPs are multiply-adds of one view, as
published (MViT paper, tables 4 to 6), within 0.5 %; MViT-S's published 32.9 is reproduced by no code base, so that its
row holds the 30.05 that SlowFast's code gives for the same numbers.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import mvit_video as mv
from mvit_video.models import Pooling

#        name            classes  parameters  GFLOPs
TABLE = [
    ("mvit_b_16x4", 400, 36_610_672, 70.5),
    ("mvit_b_32x3", 400, 36_611_440, 170.0),
    ("mvit_b_64x3", 400, 36_612_976, 455.0),
    ("mvit_b24_32x3", 400, 53_115_280, 236.0),
    ("mvit_b24_32x3", 600, 53_269_080, 236.0),
    ("mvit_s_16x4", 400, 26_038_032, 30.05),
]


@pytest.mark.parametrize(("name", "num_classes", "parameters", "gflops"), TABLE)
def test_parameters_and_flops(name: str, num_classes: int, parameters: int, gflops: float) -> None:
    with torch.device("meta"):
        net = mv.create_model(name, num_classes=num_classes).eval()
        clip = torch.empty(1, 3, net.num_frames, net.crop_size, net.crop_size)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    with FlopCounterMode(display=False) as counter:
        net(clip)
    multiply_adds = counter.get_total_flops() / 2
    assert multiply_adds / 1e9 == pytest.approx(gflops, rel=0.005)


# MViT paper, tables 11 and 15: parameters in millions of MViT-B 16x4 with max pooling.
MAX = Pooling(mode="max", kernel=None)
ABLATIONS = [
    ({"position": "none", "pooling": MAX}, 36.21),
    ({"position": "joint", "pooling": MAX}, 38.62),
    ({"position": "separable", "pooling": MAX}, 36.51),
]


@pytest.mark.parametrize(("overrides", "millions"), ABLATIONS)
def test_parameters_of_ablations(overrides: dict, millions: float) -> None:
    with torch.device("meta"):
        net = mv.create_model("mvit_b_16x4", **overrides)
    assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
