"""Layers tuned for a CPU against the plain ones."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import mvit_video as mv
from mvit_video.models import VideoNet, cpvt_ti, mvit, mvit_b_16x4, mvitv2, pvt_tiny, pvt_v2_b0
from mvit_video.nn import (
    DotProductAttention,
    Mlp,
    MultiscaleBlock,
    PoolingAttention,
    RelativePosition,
    TokenPool,
    tune_for_cpu,
    untuned,
)
from mvit_video.nn.cpu import ChunkedAttention
from mvit_video.types import THW

SIZES = {"num_classes": 3, "num_frames": 2, "crop_size": 32}
SMALL = {**SIZES, "depths": (1, 1), "embed_dim": 8}
GRID = THW(3, 5, 6)
NETS = {
    "mvit": lambda: mvit(**SMALL),
    "mvitv2": lambda: mvitv2(**SMALL),
    "pvt": lambda: pvt_tiny(**SIZES, depths=(1, 1, 1, 1)),
    "pvt_v2": lambda: pvt_v2_b0(**SIZES, depths=(1, 1, 1, 1)),
    "cpvt": lambda: cpvt_ti(**SIZES, depths=(2,)),
}


@pytest.fixture(params=list(NETS))
def net(request: pytest.FixtureRequest) -> VideoNet:
    torch.manual_seed(0)
    return NETS[request.param]()


def block(widens_in_attention: bool = True, head_dim: int = 3) -> MultiscaleBlock:
    torch.manual_seed(0)
    dim = 2 * head_dim
    dims = (dim, 2 * dim, 2 * dim) if widens_in_attention else (dim, dim, 2 * dim)
    pools = {f"pool_{name}": TokenPool("conv", dims[1] // 2, 2, THW(3, 3, 3), THW(1, 2, 2)) for name in "kv"}
    rel_pos = RelativePosition(GRID, THW(3, 3, 3), dims[1] // 2)
    return MultiscaleBlock(PoolingAttention(dim, dims[1], 2, rel_pos=rel_pos, **pools), *dims)


def tokens(dim: int = 6) -> Tensor:
    return torch.randn(2, 1 + GRID.volume, dim, generator=torch.Generator().manual_seed(1))


def kinds(net: nn.Module) -> list[type]:
    return [type(module) for module in net.modules()]


def test_a_tuned_net_infers_what_the_plain_one_does(net: VideoNet) -> None:
    clip = torch.randn(2, 3, 2, 32, 32)
    with torch.no_grad():
        expected = net.eval()(clip)
        plain = kinds(net)
        found = tune_for_cpu(net)(clip)
    assert kinds(net) != plain
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_tuned_net_trains_as_the_plain_one_does(net: VideoNet) -> None:
    clip, gradients = torch.randn(2, 3, 2, 32, 32), []
    for one in (net.double(), tune_for_cpu(copy.deepcopy(net))):
        torch.manual_seed(0)
        F.cross_entropy(one(clip.double()), torch.tensor([0, 2])).backward()
        gradients.append([parameter.grad for parameter in one.parameters()])
    for mine, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, plain, rtol=0, atol=1e-12)


def test_tuning_leaves_tensors_names_and_the_head_and_can_be_done_twice(net: VideoNet) -> None:
    state, head = net.state_dict(), kinds(net.head)
    before = kinds(net)
    tuned = kinds(tune_for_cpu(net))
    assert tune_for_cpu(net) is net
    assert kinds(net) == tuned
    assert kinds(net.head) == head
    assert list(net.state_dict()) == list(state)
    assert all(net.state_dict()[key].data_ptr() == tensor.data_ptr() for key, tensor in state.items())
    within: list[type] = []
    with contextlib.suppress(RuntimeError), untuned(net):
        within += kinds(net)
        raise RuntimeError
    assert (within, kinds(net)) == (before, tuned)


def test_a_layer_of_another_class_is_left_alone() -> None:
    class OwnMlp(Mlp):
        pass

    class OwnLinear(nn.Linear):
        pass

    made = block()
    made.mlp = OwnMlp(12, 8, 12)
    made.mlp.fc1 = OwnLinear(12, 8)
    tune_for_cpu(made)
    assert (type(made.mlp), type(made.mlp.fc1)) == (OwnMlp, OwnLinear)


@pytest.mark.parametrize("widens_in_attention", [True, False])
def test_a_block_infers_by_rows_what_it_computes_at_once(
    widens_in_attention: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvit_video.nn.cpu.ROWS_IN_CACHE", 50)
    made, x = tune_for_cpu(block(widens_in_attention).eval()), tokens()
    expected, thw = made(x, GRID)
    seen: list[int] = []
    made.norm2.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[-2]))
    with torch.no_grad():
        found, _ = made(x, GRID)
        with untuned(made):
            made(x, GRID)
    assert thw == GRID
    torch.testing.assert_close(found, expected)
    assert max(seen[:-1]) <= 50 * torch.get_num_threads()
    assert seen[-1] == x.shape[1]


@pytest.mark.parametrize("num_queries", [1, 511, 512, 1300])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float64, 1e-12)])
def test_attention_in_chunks_equals_the_plain_one(num_queries: int, dtype: torch.dtype, tolerance: float) -> None:
    """In half precision, and where positions make queries and keys wider than values."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, n, dim, dtype=dtype) for n, dim in ((num_queries, 11), (37, 11), (37, 8)))
    with torch.no_grad():
        found, expected = ChunkedAttention()(q, k, v), DotProductAttention()(q.double(), k.double(), v.double())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)


def test_only_inference_in_float32_goes_to_one_dnn() -> None:
    """Elsewhere gradients, tangents, operations counted and quantised weights need PyTorch's own."""
    layer = tune_for_cpu(block()).attn.qkv
    assert type(layer) is not nn.Linear
    x, tangent = tokens(), torch.ones_like(tokens())
    expected = F.linear(x, layer.weight, layer.bias)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
        _, found = torch.func.jvp(layer, (x,), (tangent,))
        torch.testing.assert_close(found, tangent @ layer.weight.mT)
        torch.testing.assert_close(torch.func.vmap(layer)(x), expected)
        with FlopCounterMode(display=False) as counter:
            layer(x)
    assert counter.get_total_flops() == 2 * x.numel() * layer.out_features


def test_a_tuned_block_is_exported_as_the_plain_one() -> None:
    made = block().eval()
    assert _operations(made) == _operations(tune_for_cpu(made))


def _operations(net: nn.Module) -> list[str]:
    with torch.no_grad():
        graph = torch.export.export(net, (tokens(), GRID), strict=False).graph
    return [str(node.target) for node in graph.nodes if node.op == "call_function"]


def test_create_model_gives_a_tuned_net() -> None:
    net = mv.create_model("mvit_b_16x4", **SMALL)
    assert kinds(net) == kinds(tune_for_cpu(copy.deepcopy(net)))
    with untuned(net):
        assert kinds(net) == kinds(mvit_b_16x4(**SMALL))
