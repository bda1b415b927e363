"""Small nets of both versions with weights that no initialisation gives, and their peers in the reference packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorchvideo.models.vision_transformers import create_multiscale_vision_transformers
from torch import Tensor, nn
from torchvision.models.video.mvit import MSBlockConfig
from torchvision.models.video.mvit import MViT as TorchvisionMViT

from mvit_video.checkpoints import describe
from mvit_video.models import MViT, Patch, Pooling, block_table, mvit, mvitv2

Make = Callable[..., Any]
DEPTHS = (1, 2, 2)


@torch.no_grad()
def _randomise(net: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, parameter in net.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        if "norm" in name and name.endswith("weight"):
            parameter.copy_(1 + 0.3 * noise)
        elif parameter.ndim == 1 or any(part in name for part in ("token", "position", "rel_pos")):
            parameter.copy_(0.3 * noise)
        else:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
    return net.eval()


@pytest.fixture
def randomise() -> Callable[[nn.Module], nn.Module]:
    """Gives a net weights that no initialisation gives."""
    return _randomise


@pytest.fixture
def make_v1() -> Make:
    """A small MViT in float64."""

    def make(**overrides: Any) -> MViT:
        settings: dict[str, Any] = {
            "num_classes": 5, "num_frames": 4, "crop_size": 32, "depths": DEPTHS, "embed_dim": 12,
            "pooling": Pooling(stride_kv=(1, 4, 4)),
        }  # fmt: skip
        return _randomise(mvit(**(settings | overrides)).double())

    return make


@pytest.fixture
def make_v2() -> Make:
    """A small MViTv2 in float64."""

    def make(**overrides: Any) -> MViT:
        settings: dict[str, Any] = {
            "num_classes": 5, "num_frames": 4, "crop_size": 32, "depths": DEPTHS, "embed_dim": 12,
            "pooling": Pooling(stride_kv=(1, 4, 4), q_everywhere=True, residual=True),
        }  # fmt: skip
        return _randomise(mvitv2(**(settings | overrides)).double())

    return make


IMAGE = {"num_frames": 1, "patch": Patch((1, 7, 7), (1, 4, 4))}


@pytest.fixture
def image_settings() -> dict[str, Any]:
    """What a small net for images has other than one for clips, apart from its pooling."""
    return IMAGE | {"pooling": Pooling(kernel=(1, 3, 3), stride_kv=(1, 2, 2))}


@pytest.fixture
def image_v2_settings() -> dict[str, Any]:
    """Likewise, MViTv2."""
    pooling = Pooling(kernel=(1, 3, 3), stride_kv=(1, 2, 2), q_everywhere=True, residual=True)
    return IMAGE | {"pooling": pooling, "class_token": False}


@pytest.fixture
def peer_in_torchvision() -> Make:
    """torchvision's net of the same numbers, with weights of its own."""

    def make(net: MViT) -> nn.Module:
        arguments, is_v2 = describe(net).arguments, describe(net).builder == "mvitv2"
        expand = arguments.get("expand_in_attention", False)
        table = block_table(
            arguments["depths"], arguments["embed_dim"], 1, arguments["pooling"], expand_in_attention=expand
        )
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
            for block in table
        ]
        peer = TorchvisionMViT(
            spatial_size=(net.crop_size, net.crop_size),
            temporal_size=net.num_frames,
            block_setting=settings,
            residual_pool=is_v2,
            residual_with_cls_embed=False,
            rel_pos_embed=is_v2,
            proj_after_attn=expand,
            num_classes=net.num_classes,
        )
        return peer.double().eval()

    return make


@pytest.fixture
def peer_in_pytorchvideo() -> Make:
    """pytorchvideo's net of the same numbers, with weights of its own."""

    def make(net: MViT) -> nn.Module:
        arguments = describe(net).arguments
        pooling, patch, is_image = arguments["pooling"], arguments["patch"], net.num_frames == 1
        skip = 1 if is_image else 0
        peer = create_multiscale_vision_transformers(
            spatial_size=net.crop_size,
            temporal_size=net.num_frames,
            depth=sum(DEPTHS),
            patch_embed_dim=arguments["embed_dim"],
            use_2d_patch=is_image,
            conv_patch_embed_kernel=list(patch.kernel)[skip:],
            conv_patch_embed_stride=list(patch.stride)[skip:],
            conv_patch_embed_padding=[k // 2 for k in patch.kernel][skip:],
            sep_pos_embed=arguments["position"] != "joint",
            embed_dim_mul=[[1, 2.0], [3, 2.0]],
            atten_head_mul=[[1, 2.0], [3, 2.0]],
            pool_q_stride_size=[[1, 1, 2, 2], [3, 1, 2, 2]],
            pool_kv_stride_adaptive=list(pooling.stride_kv),
            pool_kvq_kernel=pooling.kernel and list(pooling.kernel),
            pooling_mode=pooling.mode,
            head_num_classes=net.num_classes,
        ).double()
        for name, module in peer.named_modules():
            if name.endswith(("norm_q", "norm_k", "norm_v")):
                module.eps = pooling.norm_eps  # 1e-6 on its main branch; 0.1.5 has 1e-5
        return peer.eval()

    return make


@pytest.fixture
def clip_for() -> Callable[[MViT], Tensor]:
    """Two clips of a net's size."""

    def make(net: MViT) -> Tensor:
        size = (2, 3, net.num_frames, net.crop_size, net.crop_size)
        return torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    return make
