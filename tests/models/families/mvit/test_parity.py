"""Our MViT against torchvision's and pytorchvideo's, as installed, given the same non-trivial weights.

float64 on small nets: 1e-10, because nothing but the order of summation differs. float32 at full size: 1e-4 on logits
of order 1, which is that order of summation over 16 blocks.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.video import mvit_v1_b, mvit_v2_s
from torchvision.models.video.mvit import MSBlockConfig
from torchvision.models.video.mvit import MViT as TorchvisionMViT

import mvit_video as mv
from mvit_video.models import MViT, Pooling, block_table, mvit, mvitv2
from mvit_video.models.families.mvit.exporting import to_layout

DEPTHS, SIZE, FRAMES, CLASSES = (1, 2, 2), 32, 4, 5


@torch.no_grad()
def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that no initialisation gives: norms away from 1, biases away from 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in net.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        if "rel_pos" in name:
            parameter.copy_(0.3 * noise)
        elif "norm" in name and name.endswith("weight"):
            parameter.copy_(1 + 0.3 * noise)
        elif parameter.ndim == 1 or "token" in name or "position" in name:
            parameter.copy_(0.3 * noise)
        else:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
    return net


def clips(num_frames: int, size: int, dtype: torch.dtype, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, num_frames, size, size, generator=torch.Generator().manual_seed(1), dtype=dtype)


def with_todays_eps(net: nn.Module) -> nn.Module:
    """pytorchvideo 0.1.5 left the norms of pooled q, k and v at 1e-5; its main branch and SlowFast have 1e-6."""
    for name, module in net.named_modules():
        if name.endswith(("norm_q", "norm_k", "norm_v")):
            module.eps = 1e-6
    return net.eval()


def small_mvit(**overrides) -> MViT:
    net = mvit(num_classes=CLASSES, num_frames=FRAMES, crop_size=SIZE, depths=DEPTHS, embed_dim=12, **overrides)
    return randomise(net.double().eval())


def small_pytorchvideo(**overrides) -> nn.Module:
    transformers = pytest.importorskip("pytorchvideo.models.vision_transformers")
    net = transformers.create_multiscale_vision_transformers(
        spatial_size=SIZE,
        temporal_size=FRAMES,
        depth=sum(DEPTHS),
        patch_embed_dim=12,
        embed_dim_mul=[[1, 2.0], [3, 2.0]],
        atten_head_mul=[[1, 2.0], [3, 2.0]],
        pool_q_stride_size=[[1, 1, 2, 2], [3, 1, 2, 2]],
        head_num_classes=CLASSES,
        **overrides,
    )
    return with_todays_eps(net.double())


def small_mvitv2(frames: int = FRAMES, **overrides) -> MViT:
    net = mvitv2(num_classes=CLASSES, num_frames=frames, crop_size=SIZE, depths=DEPTHS, embed_dim=12, **overrides)
    return randomise(net.double().eval())


def small_torchvision(pooling: Pooling, frames: int = FRAMES, *, v2: bool = False) -> nn.Module:
    settings = [
        MSBlockConfig(
            num_heads=block.num_heads,
            input_channels=block.dim,
            output_channels=block.dim_out,
            kernel_q=list(block.kernel_q or []),
            kernel_kv=list(block.kernel_kv or []),
            stride_q=list(block.stride_q) if block.kernel_q else [],
            stride_kv=list(block.stride_kv) if block.kernel_kv else [],
        )
        for block in block_table(DEPTHS, 12, 1, pooling, expand_in_attention=v2)
    ]
    net = TorchvisionMViT(
        spatial_size=(SIZE, SIZE),
        temporal_size=frames,
        block_setting=settings,
        residual_pool=pooling.residual,
        residual_with_cls_embed=False,
        rel_pos_embed=v2,
        proj_after_attn=v2,
        num_classes=CLASSES,
    )
    return net.double().eval()


POOLINGS = {
    "published": Pooling(stride_kv=(1, 4, 4)),
    "kernel_of_stride_plus_one": Pooling(kernel=None, stride_kv=(1, 4, 4)),
    "temporal_kv_stride": Pooling(stride_kv=(2, 4, 4)),
    "fixed_kv_stride": Pooling(stride_kv=(1, 2, 2), adaptive_kv_stride=False),
    "no_kv_pooling": Pooling(stride_kv=None),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_small_net_equals_torchvision_in_float64(name: str) -> None:
    ours, theirs = small_mvit(pooling=POOLINGS[name]), small_torchvision(POOLINGS[name])
    theirs.load_state_dict(to_layout(ours.state_dict(), "torchvision"), strict=True)
    clip = clips(FRAMES, SIZE, torch.float64)
    torch.testing.assert_close(ours(clip), theirs(clip), rtol=0, atol=1e-10)


@pytest.mark.parametrize("position", ["separable", "joint"])
@pytest.mark.parametrize(("mode", "kernel"), [("conv", (3, 3, 3)), ("max", None), ("avg", None), ("max", (3, 3, 3))])
def test_small_net_equals_pytorchvideo_in_float64(mode: str, kernel: tuple | None, position: str) -> None:
    ours = small_mvit(pooling=Pooling(mode=mode, kernel=kernel, stride_kv=(1, 4, 4)), position=position)
    theirs = small_pytorchvideo(
        pooling_mode=mode,
        pool_kvq_kernel=kernel and list(kernel),
        pool_kv_stride_adaptive=[1, 4, 4],
        sep_pos_embed=position == "separable",
    )
    theirs.load_state_dict(to_layout(ours.state_dict(), "pytorchvideo"), strict=True)
    clip = clips(FRAMES, SIZE, torch.float64)
    torch.testing.assert_close(ours(clip), theirs(clip), rtol=0, atol=1e-10)


def test_small_net_without_positions_equals_pytorchvideo_with_zero_positions() -> None:
    ours, theirs = (
        small_mvit(position="none"),
        small_pytorchvideo(pool_kv_stride_adaptive=[1, 8, 8], pool_kvq_kernel=[3, 3, 3]),
    )
    state = to_layout(ours.state_dict(), "pytorchvideo")
    tables = {k: torch.zeros_like(v) for k, v in theirs.state_dict().items() if "pos_embed" in k}
    theirs.load_state_dict(state | tables, strict=True)
    clip = clips(FRAMES, SIZE, torch.float64)
    torch.testing.assert_close(ours(clip), theirs(clip), rtol=0, atol=1e-10)


POOLINGS_V2 = {
    "published": Pooling(q_everywhere=True, residual=True, stride_kv=(1, 4, 4)),
    "coarser_keys": Pooling(q_everywhere=True, residual=True, stride_kv=(1, 8, 8)),
    "temporal_kv_stride": Pooling(q_everywhere=True, residual=True, stride_kv=(2, 4, 4)),
    "without_residual": Pooling(q_everywhere=True, stride_kv=(1, 4, 4)),
}


@pytest.mark.parametrize("name", POOLINGS_V2)
def test_small_v2_equals_torchvision_in_float64(name: str) -> None:
    ours, theirs = small_mvitv2(pooling=POOLINGS_V2[name]), small_torchvision(POOLINGS_V2[name], v2=True)
    theirs.load_state_dict(to_layout(ours.state_dict(), "torchvision"), strict=True)
    clip = clips(FRAMES, SIZE, torch.float64)
    torch.testing.assert_close(ours(clip), theirs(clip), rtol=0, atol=1e-10)


def test_small_v2_of_one_token_frame_equals_torchvision_in_float64() -> None:
    pooling = POOLINGS_V2["published"]
    ours, theirs = small_mvitv2(frames=2, pooling=pooling), small_torchvision(pooling, frames=2, v2=True)
    theirs.load_state_dict(to_layout(ours.state_dict(), "torchvision"), strict=True)
    clip = clips(2, SIZE, torch.float64)
    torch.testing.assert_close(ours(clip), theirs(clip), rtol=0, atol=1e-10)


@pytest.mark.parametrize("v2", [False, True])
def test_gradients_equal_torchvision_in_float64(v2: bool) -> None:
    pooling = (POOLINGS_V2 if v2 else POOLINGS)["published"]
    ours, theirs = (small_mvitv2 if v2 else small_mvit)(pooling=pooling), small_torchvision(pooling, v2=v2)
    theirs.load_state_dict(to_layout(ours.state_dict(), "torchvision"), strict=True)
    clip = clips(FRAMES, SIZE, torch.float64)
    for net in (ours, theirs):
        net(clip).square().sum().backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    found = to_layout({name: parameter.grad for name, parameter in ours.named_parameters()}, "torchvision")
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "peer"),
    [("mvit_b_16x4", "torchvision"), ("mvit_b_16x4", "pytorchvideo"), ("mvitv2_s_16x4", "torchvision")],
)
@torch.no_grad()
def test_full_size_logits_equal_in_float32(name: str, peer: str) -> None:
    ours = randomise(mv.create_model(name).eval())
    if peer == "torchvision":
        theirs = (mvit_v1_b() if name == "mvit_b_16x4" else mvit_v2_s()).eval()
        theirs.load_state_dict(to_layout(ours.state_dict(), "torchvision"), strict=True)
    else:
        theirs = with_todays_eps(pytest.importorskip("pytorchvideo.models.hub").mvit_base_16x4())
        theirs.load_state_dict(to_layout(ours.state_dict(), "pytorchvideo"), strict=True)
    clip = clips(16, 224, torch.float32, batch=1)
    torch.testing.assert_close(ours(clip), theirs(clip), rtol=0, atol=1e-4)
