"""The sizes that are stated are those of the nets."""

import pytest
import torch

from mvit_video.checkpoints import create_model
from mvit_video.models import list_models, variants
from mvit_video.models.net import multiply_adds
from mvit_video.models.published import ModelSize


def _measured(name: str) -> ModelSize:
    with torch.device("meta"):
        net = create_model(name)
    num_parameters = sum(parameter.numel() for parameter in net.parameters())
    return ModelSize(net.num_frames, net.crop_size, num_parameters, round(multiply_adds(net)))


def test_a_size_is_that_of_the_net() -> None:
    assert variants()["cpvt_ti_gap"].size == _measured("cpvt_ti_gap")


@pytest.mark.slow  # builds every net
def test_sizes_are_those_of_the_nets() -> None:
    assert {name: _measured(name) for name in list_models()} == {name: one.size for name, one in variants().items()}


def test_the_list_of_models_builds_no_net(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from mvit_video.cli import main

    monkeypatch.setattr(torch.nn.Module, "__init__", None)
    assert main(["models", "mvit_b_16x4"]) == 0
    assert "36.61 M" in capsys.readouterr().out
