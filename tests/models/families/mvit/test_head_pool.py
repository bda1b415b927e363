"""What the head classifies, stages that gradients reach, and nets under `torch.jit.trace`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

import mvit_video as mv
from mvit_video.models import Pooling, mvit, mvitv2

SMALL: dict[str, Any] = {"num_frames": 4, "crop_size": 32, "num_classes": 3}
V2 = SMALL | {
    "depths": (1, 1),
    "embed_dim": 8,
    "pooling": Pooling(stride_kv=(1, 4, 4), q_everywhere=True, residual=True),
}
FAMILIES = ("pvt_tiny", "pvt_v2_b0", "cpvt_ti_gap", "alternet_18")


def net_of(name: str, **overrides: Any) -> Any:
    torch.manual_seed(0)
    return mvitv2(**V2 | overrides) if name == "mvitv2" else mv.create_model(name, **SMALL | overrides)


@torch.no_grad()
@pytest.mark.parametrize("class_token", [True, False])
def test_the_head_classifies_the_class_token_or_a_mean_of_the_patches(class_token: bool) -> None:
    clip = torch.randn(2, 3, 4, 32, 32)
    found = {}
    for head_pool in ("cls", "mean_of_patches", "gap"):
        if head_pool == "cls" and not class_token:
            continue
        net = net_of("mvitv2", class_token=class_token, head_pool=head_pool).eval()
        net.norm.weight.copy_(torch.linspace(0.5, 2, 16))
        seen: list[torch.Tensor] = []
        net.blocks[-1].register_forward_hook(lambda module, args, output, seen=seen: seen.append(output[0]))
        features = net.forward_features(clip)
        patches = seen[0][:, 1:] if class_token else seen[0]
        expected = {
            "cls": net.norm(seen[0])[:, 0],
            "mean_of_patches": net.norm(patches.mean(dim=1)),  # SlowFast's USE_MEAN_POOLING: mean, then norm
            "gap": net.norm(patches).mean(dim=1),
        }[head_pool]
        torch.testing.assert_close(features.embedding, expected)
        torch.testing.assert_close(features.tokens, net.norm(seen[0]))
        torch.testing.assert_close(net(clip), net.head(expected))
        found[head_pool] = net(clip)
    assert not torch.allclose(found["gap"], found["mean_of_patches"], atol=1e-3)
    default = net_of("mvitv2", class_token=class_token)
    assert default.head_pool == ("cls" if class_token else "gap")


def test_an_impossible_head_pool_is_named() -> None:
    with pytest.raises(mv.ConfigError, match="head_pool cls needs a class token"):
        mvit(**SMALL, head_pool="cls", class_token=False)
    with pytest.raises(mv.ConfigError, match=r"pooling\.norm_eps must be between 0 and 1, got 0"):
        Pooling(norm_eps=0.0)


def test_norms_after_pools_have_the_eps_that_is_asked_for() -> None:
    pooling = Pooling(stride_kv=(1, 4, 4), q_everywhere=True, norm_eps=1e-5)
    found = {name: module.eps for name, module in net_of("mvitv2", pooling=pooling).named_modules() if "norm" in name}
    assert {eps for name, eps in found.items() if ".pool_" in name} == {1e-5}
    assert {eps for name, eps in found.items() if ".pool_" not in name} == {1e-6}


@pytest.mark.parametrize("name", ["mvitv2", *FAMILIES])
def test_gradients_of_the_logits_reach_every_stage(name: str) -> None:
    net = net_of(name, **{"head_pool": "mean_of_patches"} if name == "mvitv2" else {}).eval()
    clip = torch.randn(1, 3, 4, 32, 32)
    features = net.forward_features(clip, stages=True)
    grads = torch.autograd.grad(net.head(features.embedding)[:, 0].sum(), features.stages, allow_unused=True)
    if name == "pvt_tiny":  # whose head reads the class token, which the last map does not hold
        grads = grads[:-1]
    assert len(grads) > 0
    assert all(grad is not None and grad.abs().max() > 0 for grad in grads)
    with torch.no_grad():
        torch.testing.assert_close(net.forward_features(clip).embedding, features.embedding)


TRACE = """
import warnings
import torch
from mvit_video.models import Pyramid, alternet, mvit, mvitv2, pvt, pvt_v2
warnings.simplefilter("ignore")  # the tracer warns of sizes that become constants, and of its own age
torch.set_num_threads(1)
small = dict(num_classes=3, num_frames=4, crop_size=32)
pyramid = Pyramid((8, 16), (1, 2), ((1, 4, 4), (1, 2, 2)), (2, 2))
nets = (
    mvit(depths=(1, 1), embed_dim=8, **small),
    mvitv2(depths=(1, 1), embed_dim=8, **small),
    pvt(depths=(1, 1), pyramid=pyramid, position="peg", **small),
    pvt_v2(depths=(1, 1), pyramid=pyramid, **small),
    alternet(depths=(1, 1, 1, 2), num_pairs=(0, 0, 0, 1), block="basic", **small),
)
first, second = torch.randn(1, 3, 4, 32, 32), torch.randn(2, 3, 4, 32, 32)
for net in nets:
    net.eval()
    for with_gradients in (True, False):
        with torch.set_grad_enabled(with_gradients):
            traced = torch.jit.trace(net, first, check_trace=False)
            torch.testing.assert_close(traced(second), net(second), rtol=1e-4, atol=1e-5)
print("equal")
"""


@pytest.mark.slow
def test_a_traced_net_gives_the_same_logits() -> None:
    """In a process of its own: the tests' type checks refuse the tensors that the tracer has for sizes."""
    done = subprocess.run([sys.executable, "-c", TRACE], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr
