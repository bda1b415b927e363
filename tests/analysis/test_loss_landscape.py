"""Landscapes: lengths of directions, and what does not change them."""

import numpy as np
import pytest
import torch
from torch import nn

from mvit_video.analysis.batches import score
from mvit_video.analysis.loss_landscape import LandscapeSettings, draw_landscape, landscape, random_direction
from mvit_video.models import MViT
from mvit_video.types import ConfigError
from tests.fixtures.nets import MakeBatches


def test_each_filter_of_a_direction_is_as_long_as_the_nets(tiny_cnn: nn.Module) -> None:
    direction = random_direction(tiny_cnn, "filter", torch.Generator().manual_seed(0))
    for name, parameter in tiny_cnn.named_parameters():
        if parameter.ndim > 1:
            torch.testing.assert_close(direction[name].flatten(1).norm(dim=1), parameter.flatten(1).norm(dim=1))
        else:
            assert not direction[name].any()


def test_the_other_mode_goes_by_input_positions(tiny_cnn: nn.Module) -> None:
    direction = random_direction(tiny_cnn, "repo", torch.Generator().manual_seed(0))
    for name in ("stem.weight", "head.weight"):
        torch.testing.assert_close(direction[name].norm(dim=0), tiny_cnn.get_parameter(name).norm(dim=0))


def test_positions_stay_where_they_are(tiny_v1: MViT, tiny_v2: MViT) -> None:
    for net in (tiny_v1, tiny_v2):
        direction = random_direction(net, "filter", torch.Generator().manual_seed(0))
        fixed = {name for name, value in direction.items() if not value.any() and net.get_parameter(name).ndim > 1}
        assert fixed == {name for name in direction if "pos" in name and net.get_parameter(name).ndim > 1}
        assert fixed


def test_the_scale_of_weights_before_a_batch_norm_does_not_matter(
    tiny_cnn: nn.Module, make_batches: MakeBatches
) -> None:
    unit = tiny_cnn.get_submodule("layers.0")
    unit.bn1.eps = 1e-30  # nothing beside the variance; some releases of torch refuse 0
    settings, batches = LandscapeSettings(num_points=5, dimensions=1), make_batches(3)
    before = landscape(tiny_cnn, batches, settings)
    with torch.no_grad():
        unit.conv1.weight.mul_(10)
        unit.bn1.running_mean.mul_(10)
        unit.bn1.running_var.mul_(100)
    after = landscape(tiny_cnn, batches, settings)
    np.testing.assert_allclose(after["nll"].to_numpy(), before["nll"].to_numpy(), rtol=1e-9)
    assert np.ptp(before["nll"].to_numpy()) > 1e-2


def test_the_middle_is_the_net_itself_and_the_net_stays_there(tiny_v2: MViT, make_batches: MakeBatches) -> None:
    batches = make_batches(3, 1)
    weights = {name: value.clone() for name, value in tiny_v2.state_dict().items()}
    table = landscape(tiny_v2, batches, LandscapeSettings(num_points=3), 0.1)
    middle = table.to_pylist()[4]
    assert (middle["x"], middle["y"]) == (0, 0)
    assert middle["nll"] == pytest.approx(score(tiny_v2, batches).loss, rel=1e-9)
    assert middle["l2"] == pytest.approx(0.05 * sum(float(p.detach().square().sum()) for p in tiny_v2.parameters()))
    assert middle["loss"] == middle["nll"] + middle["l2"]
    assert all(torch.equal(value, weights[name]) for name, value in tiny_v2.state_dict().items())
    assert len(table) == 9
    assert len(draw_landscape(table).axes) == 3


def test_a_line_is_drawn_as_one(tiny_cnn: nn.Module, make_batches: MakeBatches) -> None:
    table = landscape(tiny_cnn, make_batches(2), LandscapeSettings(num_points=3, dimensions=1))
    assert table["y"].to_pylist() == [0, 0, 0]
    assert len(draw_landscape(table).axes) == 1


@pytest.mark.parametrize(("setting", "value"), [("num_points", 10), ("num_points", 1), ("radius", 0.0)])
def test_impossible_points_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"landscape\.{setting} must be .* got {value}"):
        LandscapeSettings(**{setting: value})
