"""Pyramids against timm's nets and PVT's published layout, given the same weights; CPVT against timm's DeiT."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mvit_video as mv
from mvit_video.models import Pyramid

HEADS, STRIDES = (1, 2, 5, 8), (8, 4, 2, 1)


@torch.no_grad()
def randomise(net: nn.Module) -> nn.Module:
    """Biases and norms that no initialisation gives."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


@pytest.mark.parametrize("side", [64, 96])
@pytest.mark.parametrize("name", ["twins_pcpvt_small", "pvt_v2_b0", "pvt_v2_b2_li"])
def test_timms_weights_give_timms_logits(name: str, side: int) -> None:
    torch.manual_seed(0)
    options = {"img_size": side} if name.startswith("twins") else {}
    peer = randomise(timm.create_model(name, num_classes=7, **options))
    net = mv.create_model(name, num_classes=7, crop_size=side)
    report = mv.load_checkpoint(net, peer.state_dict())
    assert report.format == ("twins" if name.startswith("twins") else "timm")
    assert (report.missing, report.unexpected, report.resized) == ([], [], [])
    image = torch.randn(2, 3, side, side)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(image), peer(image), rtol=0, atol=1e-5)


def test_timms_pyramid_is_ours() -> None:
    torch.manual_seed(0)
    peer = randomise(timm.create_model("pvt_v2_b0", features_only=True))
    state = {key.replace("stages_", "stages."): value for key, value in peer.state_dict().items()}
    net = mv.create_model("pvt_v2_b0", checkpoint=state, num_classes=0, crop_size=64).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(net.forward_features(image, stages=True).stages, peer(image), strict=True):
            torch.testing.assert_close(ours[:, :, 0], theirs, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """PVT-Tiny for 64 pixels as the published code stores it."""
    generator = torch.Generator().manual_seed(0)
    dims, shapes = (3, 64, 128, 320, 512), {"cls_token": (1, 1, 512), "head.weight": (7, 512), "head.bias": (7,)}
    for stage, (before, dim, ratio) in enumerate(zip(dims, dims[1:], STRIDES, strict=False), start=1):
        kernel, hidden = (4 if stage == 1 else 2), dim * (8 if stage < 3 else 4)
        shapes |= {f"patch_embed{stage}.proj.weight": (dim, before, kernel, kernel)}
        shapes |= {f"pos_embed{stage}": (1, (16 >> stage - 1) ** 2 + (stage == 4), dim)}
        shapes |= {f"patch_embed{stage}.{key}": (dim,) for key in ("proj.bias", "norm.weight", "norm.bias")}
        for place in range(2):
            layers = {"attn.q": (dim, dim), "attn.kv": (2 * dim, dim), "attn.proj": (dim, dim)}
            layers |= {"mlp.fc1": (hidden, dim), "mlp.fc2": (dim, hidden)}
            layers |= {"attn.sr": (dim, dim, ratio, ratio)} if ratio > 1 else {}
            norms = ["norm1", "norm2", *(["attn.norm"] if ratio > 1 else [])]
            block = f"block{stage}.{place}"
            for key, shape in layers.items():
                shapes |= {f"{block}.{key}.weight": shape, f"{block}.{key}.bias": shape[:1]}
            shapes |= {f"{block}.{key}.{part}": (dim,) for key in norms for part in ("weight", "bias")}
    shapes |= {"norm.weight": (512,), "norm.bias": (512,)}
    state = {}
    for key, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        state[key] = 1 + 0.3 * noise if "norm" in key and "weight" in key else 0.3 * noise
        if noise.ndim in (2, 4):
            state[key] = noise / noise[0].numel() ** 0.5
    return state


def by_formula(state: dict[str, Tensor], image: Tensor) -> Tensor:
    """PVT in plain functions of a published state dict, grids rounded down."""

    def linear(x: Tensor, key: str) -> Tensor:
        return F.linear(x, state[f"{key}.weight"], state[f"{key}.bias"])

    def norm(x: Tensor, key: str, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{key}.weight"], state[f"{key}.bias"], eps)

    def embed(x: Tensor, key: str, size: int) -> Tensor:
        return F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], size).permute(0, 2, 3, 1)

    for stage, (num_heads, ratio) in enumerate(zip(HEADS, STRIDES, strict=True), start=1):
        grid = norm(embed(image, f"patch_embed{stage}.proj", 4 if stage == 1 else 2), f"patch_embed{stage}.norm", 1e-5)
        table = state[f"pos_embed{stage}"]
        table = table[:, stage == 4 :] if stage == 4 else table
        side = int(table.shape[1] ** 0.5)
        plane = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        plane = F.interpolate(plane, grid.shape[1:3], mode="bilinear")
        x = (grid + plane.permute(0, 2, 3, 1)).flatten(1, 2)
        if stage == 4:
            token = state["cls_token"] + state["pos_embed4"][:, :1]
            x = torch.cat([token.expand(len(x), -1, -1), x], dim=1)
        for place in range(2):
            block = f"block{stage}.{place}"
            normed = norm(x, f"{block}.norm1", 1e-6)
            reduced = normed
            if ratio > 1:
                plane = normed.reshape(grid.shape).permute(0, 3, 1, 2)
                reduced = norm(embed(plane, f"{block}.attn.sr", ratio).flatten(1, 2), f"{block}.attn.norm", 1e-5)
            q = linear(normed, f"{block}.attn.q").unflatten(-1, (num_heads, 64)).transpose(1, 2)
            k, v = linear(reduced, f"{block}.attn.kv").unflatten(-1, (2, num_heads, 64)).permute(2, 0, 3, 1, 4)
            attended = ((q @ k.mT) / 8).softmax(dim=-1) @ v
            x = x + linear(attended.transpose(1, 2).flatten(2), f"{block}.attn.proj")
            x = x + linear(F.gelu(linear(norm(x, f"{block}.norm2", 1e-6), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
        image = x.reshape(grid.shape).permute(0, 3, 1, 2) if stage < 4 else x
    return linear(norm(image[:, 0], "norm", 1e-6), "head")


# 64: the tables' own; 96: resized; 80: rounded down in stages 1 and 3; 32x128: as many cells as the tables, differently
@pytest.mark.parametrize("size", [(64, 64), (96, 96), (80, 80), (64, 96), (32, 128)])
def test_the_published_layout_gives_the_formulas_logits(published: dict[str, Tensor], size: tuple[int, int]) -> None:
    net = mv.create_model(checkpoint=published, pyramid=Pyramid(uneven="floor")) if size == (80, 80) else None
    net = net or mv.create_model("pvt_tiny", checkpoint=published, crop_size=64)
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(image), by_formula(published, image), rtol=0, atol=1e-5)


def test_tables_are_resized_once_when_a_net_of_another_size_is_filled(published: dict[str, Tensor]) -> None:
    net, image = mv.create_model("pvt_tiny", num_classes=7, crop_size=96).eval(), torch.randn(1, 3, 96, 96)
    report = mv.load_checkpoint(net, published)
    assert {change.key for change in report.resized} == {
        "position.table", "blocks.2.entry.position.table", "blocks.4.entry.position.table",
        "blocks.6.entry.position.table",
    }  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(net(image), by_formula(published, image), rtol=0, atol=1e-5)


def test_weights_of_images_make_a_net_of_clips_that_does_the_same_to_one_frame(published: dict[str, Tensor]) -> None:
    net, image = (
        mv.create_model("pvt_tiny", num_frames=4, crop_size=64, num_classes=7).eval(),
        torch.randn(2, 3, 64, 64),
    )
    report = mv.load_checkpoint(net, published)
    assert (report.missing, report.unexpected) == ([], [])
    with torch.no_grad():
        torch.testing.assert_close(net(image[:, :, None]), by_formula(published, image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["twins_pcpvt_small", "pvt_v2_b0", "cpvt_ti_gap"])
def test_convolutions_of_images_act_on_the_middle_frame(name: str) -> None:
    small = {"num_classes": 7, "crop_size": 64}
    torch.manual_seed(0)
    images = randomise(mv.create_model(name, **small))
    clips = mv.create_model(name, num_frames=4, **small).eval()
    report = mv.load_checkpoint(clips, images.state_dict())
    assert {change.how for change in report.resized} == {"inflated, on the middle frame"}
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(clips(image[:, :, None]), images(image), rtol=0, atol=1e-5)


def deit_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names of a plain vision transformer as ours."""
    names = {"cls_token": "class_token", "pos_embed": "position.table"}
    renamed = {names.get(key, key.replace("head.", "head.projection.")): value for key, value in state.items()}
    return renamed | {"patch_embed.proj.weight": state["patch_embed.proj.weight"][:, :, None]}


def test_without_pegs_cpvt_is_deit() -> None:
    torch.manual_seed(0)
    peer = randomise(timm.create_model("deit_tiny_patch16_224", img_size=64, num_classes=7))
    net = mv.create_model("cpvt_ti", position="joint", crop_size=64, num_classes=7).eval()
    net.load_state_dict(deit_keys(peer.state_dict()))
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net(image), peer(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "make", [lambda state: state, lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}}]
)
def test_wrapped_files_of_the_published_code_are_known(
    published: dict[str, Tensor], make: Callable[[dict], dict]
) -> None:
    report = mv.load_checkpoint(mv.create_model("pvt_tiny", num_classes=7, crop_size=64), make(published))
    assert (report.format, report.missing, report.unexpected) == ("pvt", [], [])


def test_what_a_published_file_has_too_much_is_named(published: dict[str, Tensor]) -> None:
    net = mv.create_model("pvt_tiny", num_classes=7, crop_size=64)
    with pytest.raises(mv.CheckpointError, match=r"1 unexpected \(first block9\.0\.norm3\.weight\)"):
        mv.load_checkpoint(net, published | {"block9.0.norm3.weight": torch.zeros(1)})
    with pytest.raises(mv.CheckpointError, match=r"1 missing \(first blocks\.1\.attn\.reduction\.conv\.bias\)"):
        mv.load_checkpoint(net, {key: value for key, value in published.items() if key != "block1.1.attn.sr.bias"})
