from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mvit_video as mv
from mvit_video.models import AlterNet, alternet
from mvit_video.models.families.alternet.net import alternation
from mvit_video.types import ConfigError

SMALL = {"depths": (1, 2, 2, 2), "num_pairs": (0, 1, 1, 1), "crop_size": 64, "num_classes": 5}


def count(**arguments: object) -> int:
    with torch.device("meta"):
        net = alternet(**arguments)  # type: ignore[arg-type]
    return sum(parameter.numel() for parameter in net.parameters())


# pictures of 32 pixels, 100 classes, windows of 4: the published code's numbers
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("alternet_18", 9_499_063),
        ("alternet_34", 22_362_954),
        ("alternet_50", 34_062_538),
        ("alternet_101", 53_054_666),
        ("alternet_152", 68_698_314),
    ],
)
def test_parameters_on_small_pictures(name: str, parameters: int) -> None:
    with torch.device("meta"):
        net = mv.create_model(name, num_classes=100, crop_size=32)
    assert isinstance(net, AlterNet)
    assert net.window_size == 4
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def test_parameters_of_the_other_published_numbers() -> None:
    small = {"num_classes": 100, "crop_size": 32}
    assert count(**small, num_pairs=(0, 1, 1, 2)) == 33_012_840  # with four attention blocks
    assert count() == 35_915_038  # for ImageNet
    resnet = {"num_pairs": (0, 0, 0, 0), "depths": (3, 4, 6, 3)}
    assert count(**small, **resnet) == 23_697_572
    assert count(**resnet) == 25_549_352


def test_attention_stands_at_the_ends_of_stages() -> None:
    kinds = ["".join("M" if it else "C" for it in alternation(*stage)) for stage in ((3, 0), (4, 1), (6, 3), (4, 2))]
    assert kinds == ["CCC", "CCCM", "CMCMCM", "CMCM"]


@pytest.mark.parametrize(("crop_size", "window"), [(224, 7), (256, 8), (32, 4), (384, 6), (448, 7)])
def test_windows_fit_the_input(crop_size: int, window: int) -> None:
    with torch.device("meta"):
        assert alternet(crop_size=crop_size).window_size == window


def test_an_input_that_no_window_tiles_is_refused_with_its_maps() -> None:
    with pytest.raises(ConfigError, match=r"crop_size=232 gives maps of \[29, 15, 8\] cells a side"):
        alternet(crop_size=232)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"num_pairs must be at most half of depths \(3, 4, 6, 4\), got \(2, 1, 3"):
        alternet(num_pairs=(2, 1, 3, 2))
    with pytest.raises(ConfigError, match="stem_stride must be 4 or 1, got 2"):
        alternet(stem_stride=2)


def by_hand(net: AlterNet, frames: Tensor) -> Tensor:
    """Logits of pictures, written out with functions: norm, activation and convolution in the order of the paper."""

    def norm(module: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(module, nn.BatchNorm2d)
        return F.batch_norm(x, module.running_mean, module.running_var, module.weight, module.bias)  # type: ignore[arg-type]

    x = F.max_pool2d(F.conv2d(frames, net.stem[0].weight, None, 2, 3), 3, 2, 1)  # type: ignore[arg-type]
    for block in net.blocks:
        is_attention = hasattr(block, "attn")
        active = norm(block.norm1, x)
        active = F.gelu(active) if is_attention else F.relu(active)
        skip = x if block.shortcut is None else block.shortcut(active)
        y = block.conv1(active)
        if is_attention:
            y = block.attn(norm(block.norm2, y))
        else:
            y = block.conv2(F.relu(norm(block.norm2, y)))
            if hasattr(block, "conv3"):
                y = block.conv3(F.relu(norm(block.norm3, y)))
        x = skip + y
    return net.head(F.relu(norm(net.norm, x)).mean(dim=(2, 3)))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@torch.no_grad()
def test_a_clip_is_the_mean_of_its_frames(block: str) -> None:
    torch.manual_seed(0)
    net = alternet(**SMALL, num_frames=3, block=block).double()  # type: ignore[arg-type]
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    clip = torch.randn(2, 3, 3, 64, 64, dtype=torch.float64)
    frames = torch.stack([by_hand(net.eval(), clip[:, :, t]) for t in range(3)])
    torch.testing.assert_close(net(clip), frames.mean(dim=0), rtol=0, atol=1e-12)


def test_features_and_stages_have_the_shapes_of_a_pyramid() -> None:
    net = alternet(**SMALL, num_frames=2).eval()  # type: ignore[arg-type]
    features = net.forward_features(torch.randn(1, 3, 2, 64, 128), stages=True)
    assert [tuple(stage.shape) for stage in features.stages] == [
        (1, 256, 2, 16, 32), (1, 512, 2, 8, 16), (1, 1024, 2, 4, 8), (1, 2048, 2, 2, 4)
    ]  # fmt: skip
    assert features.thw == (2, 2, 4)
    assert features.tokens.shape == (1, 16, 2048)
    torch.testing.assert_close(features.embedding, features.tokens.mean(dim=1))


def test_activations_can_be_computed_again() -> None:
    torch.manual_seed(0)
    net = alternet(**SMALL, drop_path_rate=0.0).double().eval()  # type: ignore[arg-type]
    clip = torch.randn(2, 3, 1, 64, 64, dtype=torch.float64)
    gradients = []
    for again in (False, True):
        net.activation_checkpointing = again
        net.zero_grad()
        net(clip).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(list(net.parameters()))
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-12)


def test_a_new_head_and_no_head() -> None:
    net = alternet(**SMALL)  # type: ignore[arg-type]
    net.eval().reset_classifier(7)
    assert net(torch.zeros(1, 3, 1, 64, 64)).shape == (1, 7)
    net.reset_classifier(0)
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, net.embed_dim)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_stochastic_depth_grows_over_all_blocks(block: str) -> None:
    """Of convolutions as of attention, as in the published code."""
    net = alternet(**SMALL, block=block, drop_path_rate=0.3)  # type: ignore[arg-type]
    assert [module.drop_path.rate for module in net.blocks] == pytest.approx([0.05 * n for n in range(7)])


def test_small_pictures_keep_their_size_in_the_stem() -> None:
    with torch.device("meta"):
        stems = [alternet(crop_size=side).stem_stride for side in (32, 48, 64, 224)]
        assert stems == [1, 1, 4, 4]
        assert alternet(crop_size=32, stem_stride=4, num_pairs=(0, 1, 0, 0)).stem_stride == 4


def test_what_is_saved_is_built_again(tmp_path: Path) -> None:
    net = alternet(**SMALL, num_frames=4, drop_path_rate=0.25, window_size=2)  # type: ignore[arg-type]
    mv.save_checkpoint(net, tmp_path / "net.safetensors")
    again = mv.create_model(checkpoint=tmp_path / "net.safetensors")
    assert isinstance(again, AlterNet)
    assert (again.depths, again.num_pairs, again.num_frames, again.drop_path_rate) == (
        net.depths, net.num_pairs, 4, 0.25
    )  # fmt: skip
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in again.state_dict().items())
    with pytest.raises(mv.MVitVideoError, match="cannot export to slowfast, which has no AlterNet"):
        mv.export_checkpoint(net, tmp_path / "net.pth", format="slowfast")
