"""Groups of parameters against timm's, and learning rates that reach the optimiser."""

from functools import partial
from typing import Any

import pytest
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

import mvit_video as mv
from mvit_video.training.parameters import decay_groups, scale_rates
from mvit_video.types import ConfigError
from tests.fixtures.training import MakeTask, MakeTinyNet


class TimmNet(nn.Module):
    """Our net with what timm asks a model for."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {
            "stem": r"^net\.(?:class_token|position|patch_embed)",
            "blocks": r"^net\.blocks\.(\d+)",  # what matches nothing comes last
        }


@pytest.fixture(scope="module")
def small_net() -> nn.Module:
    return mv.create_model("mvit_s_16x4", num_classes=5, depths=(1, 2), embed_dim=16, num_frames=4, crop_size=32)


@pytest.mark.parametrize("layer_decay", [0.75, 0.9])
def test_layer_decay_is_timms(small_net: nn.Module, layer_decay: float) -> None:
    names = {id(parameter): name for name, parameter in small_net.named_parameters()}
    ours = {
        names[id(parameter)]: (group["lr_scale"], group.get("weight_decay", 0.05))
        for group in decay_groups(small_net, layer_decay)
        for parameter in group["params"]
    }
    timms = {
        names[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in param_groups_layer_decay(TimmNet(small_net), weight_decay=0.05, layer_decay=layer_decay)
        for parameter in group["params"]
    }
    assert ours.keys() == timms.keys() == set(names.values())
    for name, (scale, weight_decay) in ours.items():
        assert scale == pytest.approx(timms[name][0]), name
        assert weight_decay == timms[name][1], name


def test_without_layer_decay_there_are_two_groups(small_net: nn.Module) -> None:
    groups = decay_groups(small_net)
    assert [group["lr_scale"] for group in groups] == [1.0, 1.0]
    assert sum(len(group["params"]) for group in groups) == len(list(small_net.parameters()))


def test_rates_reach_the_optimizer(small_net: nn.Module) -> None:
    optimizer = torch.optim.AdamW(decay_groups(small_net, 0.5), lr=0.08)
    scale_rates(optimizer)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx([0.005, 0.01, 0.02, 0.04, 0.08])
    assert all("lr_scale" not in group for group in optimizer.param_groups)


def test_frozen_parameters_are_left_out(tiny_net: MakeTinyNet) -> None:
    net = tiny_net()
    net.embed.requires_grad_(False)
    assert sum(len(group["params"]) for group in decay_groups(net)) == len(list(net.parameters())) - 2


@pytest.mark.parametrize("layer_decay", [0.0, 1.1])
def test_impossible_layer_decay(make_task: MakeTask, layer_decay: float) -> None:
    with pytest.raises(ConfigError, match=f"model.layer_decay must be above 0 and at most 1, got {layer_decay}"):
        make_task(layer_decay=layer_decay, optimizer=partial(torch.optim.SGD, lr=0.1))


def test_a_net_exempts_parameters_of_its_own_recipe() -> None:
    with torch.device("meta"):
        pyramid, plain = mv.create_model("pvt_tiny"), mv.create_model("cpvt_ti")
    for net, free in (
        (pyramid, {"blocks.6.entry.class_token"}),
        (plain, {"blocks.0.peg.conv.weight"}),
    ):
        names = {id(parameter): name for name, parameter in net.named_parameters()}
        _, undecayed = decay_groups(net)
        assert {names[id(p)] for p in undecayed["params"] if p.ndim > 1} == free
