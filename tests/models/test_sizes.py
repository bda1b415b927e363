"""The sizes that are stated are those of the nets."""

import subprocess
import sys

import pytest
import torch

from mvit_video.checkpoints import create_model
from mvit_video.models import builders, list_models, variants
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


def test_listing_models_imports_no_torch() -> None:
    lines = (
        "import sys, mvit_video.models as m; print(m.variants()['mvit_b_16x4'].size); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "num_parameters=36610672" in done.stdout


def test_what_is_published_stands_in_the_docstring_of_a_builder() -> None:
    published = "Published top1: 84.4 on ImageNet-1K, centre crop (arXiv:2112.01526)."
    assert builders()["mvitv2_b"].__doc__ == f"MViTv2-B for images. {published}"
