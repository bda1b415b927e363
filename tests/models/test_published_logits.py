"""PVT, PVTv2 and AlterNet against logits that the published code gave, in its own layout.

Weights and images come from `hashed`, which has no random numbers in it, by the published name of each tensor: a name
that is not theirs gives other logits. The numbers were computed in float64 by

- whai362/PVT: classification/pvt.py at 3328051, classification/pvt_v2.py at 0a0f63c;
- xxxnell/how-do-vits-work: models/alternet.py at d2979f2 with models/preresnet_dnn_block.py at fc7db20.
"""

from __future__ import annotations

import re
import zlib
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import mvit_video as mv
from mvit_video.models import AlterNet, VideoNet

SMALL = {"num_classes": 100, "crop_size": 32}
LINEAR = {"kv_reduction": "linear_sra"}


class Case(NamedTuple):
    """A net, its image, and the first logits of the published code."""

    name: str
    arguments: dict[str, Any]
    height: int
    width: int
    logits: tuple[float, ...]


# tables of PVT are those of 224 pixels, resized for its image
CASES = [
    Case("alternet_18", SMALL, 32, 32, (0.62498924, -1.52392985, -0.10712761, -2.10763282, 0.41443866)),
    Case("alternet_50", SMALL, 32, 32, (2.34338201, -0.85934878, 1.27090658, 0.28109807, 1.68029078)),
    Case("alternet_18", {}, 224, 224, (1.80855607, -2.88858663, 1.99365651, -5.59576045, -0.23534056)),
    Case("pvt_tiny", {}, 64, 96, (-0.86921545, 0.98841217, 0.8383439, -0.56263053, -0.03144798)),
    Case("pvt_v2_b0", {}, 64, 96, (-1.7878866, 1.00604579, 1.76789268, -0.36679719, 0.10501592)),
    Case("pvt_v2_b0", LINEAR, 64, 96, (-0.69729279, 1.11923734, 0.96753793, 1.26987854, 0.58343853)),
]


def hashed(name: str, shape: tuple[int, ...]) -> Tensor:
    """Numbers in [-1, 1) by a name and a running index, mixed in whole numbers of 32 bits."""
    count = torch.Size(shape).numel()
    mixed = (torch.arange(count) * 2654435761 + zlib.crc32(name.encode())) & 0xFFFFFFFF
    for _ in range(2):
        mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return ((mixed ^ (mixed >> 16)).double() / 2**31 - 1).reshape(shape)


def filled(name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of a published state dict: nothing is zero or one, and layers keep the scale of what they are given."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    values = hashed(name, shape)
    if len(shape) == 1:
        part = name.rpartition(".")[2]
        return {"weight": 1 + 0.3 * values, "running_var": 1 + 0.5 * values}.get(part, 0.3 * values)
    return values if "pos_embed" in name or "token" in name else values * (3 / values[0].numel()) ** 0.5


def published_state(net: VideoNet) -> dict[str, Tensor]:
    """A state dict of the published code for a net of ours."""
    state = {}
    for key, tensor in net.state_dict().items():
        name = (alternet_name if isinstance(net, AlterNet) else pvt_name)(net, key)
        shape = tuple(tensor.shape)
        state[name] = filled(name, shape[:2] + shape[3:] if len(shape) == 5 else shape)  # theirs have no axis of time
    return state


def located(net: Any, key: str) -> tuple[int, int, str]:
    """Stage, from 1, place in it, and the rest of our name of a tensor."""
    match = re.match(r"blocks\.(\d+)\.(.*)", key)
    index, rest = (int(match[1]), match[2]) if match else (0, key)
    stage = 0
    while index >= net.depths[stage]:
        index, stage = index - net.depths[stage], stage + 1
    return stage + 1, index, rest


def pvt_name(net: Any, key: str) -> str:
    stage, place, rest = located(net, key)
    if key.startswith("norm."):
        return key.replace("norm", "norm4") if net.convolutional else key
    if rest.startswith(("attn.", "mlp.", "norm")):
        rest = f"block{stage}.{place}.{rest}"
    for ours, theirs in (
        ("entry.", ""),
        ("patch_embed", f"patch_embed{stage}"),
        ("position.table", f"pos_embed{stage}"),
        ("class_token", "cls_token"),
        ("stage_norm", f"norm{stage}"),
        ("reduction.conv", "sr"),
        ("reduction.", ""),
        ("mlp.conv", "mlp.dwconv.dwconv"),
        ("head.projection", "head"),
    ):
        rest = rest.replace(ours, theirs)
    return rest


def alternet_name(net: Any, key: str) -> str:
    stage, place, rest = located(net, key)
    if not key.startswith("blocks."):
        rest = rest.replace("stem.0", "layer0.layer0.0").replace("head.projection", "classifier.0.dense")
        return re.sub("^norm", "classifier.0.bn", rest)
    if hasattr(net.blocks[int(key.split(".")[1])], "attn"):
        rest = re.sub(r"attn\.(q|kv)\.", r"attn.attn.to_\1.", rest).replace("attn.proj", "attn.attn.to_out.0")
        rest = rest.replace("attn.rel_pos", "attn.pos_embedding").replace("conv1", "conv")
    else:
        rest = re.sub("conv([23])", r"conv\1.2", rest).replace("norm1", "bn")
        rest = re.sub("norm([23])", r"conv\1.0", rest)
    return f"layer{stage}.{place}." + rest.replace("shortcut", "shortcut.0")


def built(case: Case) -> VideoNet:
    return mv.create_model(case.name, **case.arguments).double().eval()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.height}")
@torch.no_grad()
def test_logits_are_those_of_the_published_code(case: Case) -> None:
    net = built(case)
    report = mv.load_checkpoint(net, {"state_dict": published_state(net)})
    assert (report.format, report.resized) == ("alternet" if isinstance(net, AlterNet) else "pvt", [])
    logits = net(hashed("image", (1, 3, case.height, case.width)))
    torch.testing.assert_close(logits[0, :5], torch.tensor(case.logits).double(), rtol=0, atol=2e-7)


@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[5]], ids=lambda case: case.name)
def test_a_state_dict_of_the_published_code_tells_its_net(case: Case) -> None:
    """Whatever its training left around it; both nets have the tensors of the first."""
    net = built(case)
    state = published_state(net)
    mv.load_checkpoint(net, state)
    for content in ({"model": state, "epoch": 7}, {"state_dict": {f"module.{key}": state[key] for key in state}}):
        guessed = mv.create_model(checkpoint=content)
        assert guessed.crop_size == net.crop_size
        torch.testing.assert_close(guessed.double().state_dict(), net.state_dict(), rtol=0, atol=1e-7)
