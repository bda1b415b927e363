"""Features at the residual sums of nets of this package and of others."""

import pytest
import timm
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.video.mvit import MSBlockConfig
from torchvision.models.video.mvit import MViT as TorchvisionMViT

import mvit_video as mv
from mvit_video.analysis import draw_fourier, draw_lesion, draw_variance, fourier, lesion, variance
from mvit_video.analysis.adapter import branches, iter_features
from mvit_video.models import Features, MViT, VideoNet
from mvit_video.nn import CubeEmbedding, tokens_to_grid, tune_for_cpu
from mvit_video.types import THW, ConfigError
from tests.fixtures.nets import MakeBatches


@pytest.mark.parametrize("name", ["tiny_v1", "tiny_v2"])
def test_a_net_has_a_sample_after_each_branch_and_passes_the_last_one_on(
    name: str, request: pytest.FixtureRequest, make_batches: MakeBatches
) -> None:
    net: MViT = request.getfixturevalue(name)
    (batch,) = make_batches(2)
    features = list(iter_features(net, batch.clip))
    assert [feature.kind for feature in features] == ["embed", "msa", "mlp", "pool", "mlp", "msa", "mlp"]
    assert [feature.name for feature in features[:3]] == ["embed", "blocks.0.attn", "blocks.0.mlp"]
    assert features[0].map.shape == (2, 8, 4, 4, 4)
    net.eval()
    with torch.no_grad():
        stages = net.forward_features(batch.clip, stages=True).stages
    assert torch.equal(features[-1].map, stages[-1])
    assert torch.equal(features[2].map, stages[0])


def test_a_sample_after_attention_is_the_residual_sum(tiny_v1: MViT, make_batches: MakeBatches) -> None:
    (batch,) = make_batches(2)
    features = {feature.name: feature.map for feature in iter_features(tiny_v1, batch.clip)}
    block = tiny_v1.eval().blocks[2]
    before = features["blocks.1.mlp"].flatten(2).mT
    with torch.no_grad():
        tokens, thw = tiny_v1.forward_features(batch.clip).tokens, tiny_v1.forward_features(batch.clip).thw
        kept: list[torch.Tensor] = []
        handle = block.attn.register_forward_hook(lambda module, args, output: kept.append(output[0]))
        tiny_v1(batch.clip)
        handle.remove()
    assert tokens.shape[1] == 1 + thw.volume
    torch.testing.assert_close(features["blocks.2.attn"].flatten(2).mT, before + kept[0][:, 1:])


def test_a_net_tuned_for_a_cpu_whose_blocks_take_rows_in_parts(tiny_v2: MViT) -> None:
    net = tune_for_cpu(tiny_v2.float().eval())
    clip = torch.randn(5, 3, 20, 16, 16)  # more tokens than a thread takes at a time
    features = list(iter_features(net, clip))
    with torch.no_grad():
        last = net.forward_features(clip, stages=True).stages[-1]
    torch.testing.assert_close(features[-1].map, last)
    assert [feature.kind for feature in features] == ["embed", "msa", "mlp", "pool", "mlp", "msa", "mlp"]


def test_torchvisions_mvit() -> None:
    settings = [
        MSBlockConfig(1, 8, 8, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
        MSBlockConfig(2, 8, 16, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 1, 1]),
    ]
    torch.manual_seed(0)
    net = TorchvisionMViT((16, 16), 4, settings, True, True, True, True, num_classes=3)
    kept: list[torch.Tensor] = []
    net.norm.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    features = list(iter_features(net, torch.randn(2, 3, 4, 16, 16)))
    assert [feature.kind for feature in features] == ["embed", "msa", "mlp", "pool", "mlp"]
    assert torch.equal(features[-1].map.flatten(2).mT, kept[0][:, 1:])


def test_position_encodings_between_blocks_and_patches_between_stages() -> None:
    net = timm.create_model("twins_pcpvt_small", depths=(2, 2, 1, 1))
    features = list(iter_features(net, torch.randn(1, 3, 64, 64)))
    kinds = [feature.kind for feature in features]
    assert kinds[:8] == ["embed", "msa", "mlp", "peg", "msa", "mlp", "pool", "msa"]
    assert features[3].name == "blocks.0.1.input"
    assert next(tuple(f.map.shape[1:]) for f in features if f.kind == "pool") == (128, 1, 8, 8)


def test_a_net_of_convolutions(tiny_cnn: nn.Module, make_batches: MakeBatches) -> None:
    (batch,) = make_batches(2)
    features = list(iter_features(tiny_cnn, batch.clip))
    assert [(feature.name, feature.kind) for feature in features] == [
        ("embed", "embed"), ("layers.0", "conv"), ("layers.1", "pool"),
    ]  # fmt: skip
    with torch.no_grad():
        assert torch.equal(features[-1].map, tiny_cnn.eval().layers(tiny_cnn.stem(batch.clip)))


def test_a_net_for_pictures_that_takes_frames_one_by_one() -> None:
    class PerFrame(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = resnet18(num_classes=3)

        def forward(self, clip: torch.Tensor) -> torch.Tensor:
            return self.net(clip.movedim(1, 2).flatten(0, 1)).unflatten(0, (len(clip), -1)).mean(dim=1)

    torch.manual_seed(0)
    clip = torch.randn(2, 3, 4, 32, 32)
    net = PerFrame()
    of_clips, of_pictures = list(iter_features(net, clip)), list(iter_features(net.net, clip[:, :, 1]))
    assert of_clips[-1].map.shape == (2, 512, 4, 1, 1)
    torch.testing.assert_close(of_clips[3].map[:, :, 1], of_pictures[3].map[:, :, 0])


def test_the_net_is_left_as_it_was(tiny_v1: MViT, make_batches: MakeBatches) -> None:
    tiny_v1.train()
    tiny_v1.blocks[0].eval()
    modes = [module.training for module in tiny_v1.modules()]
    (batch,) = make_batches(2)
    first, second = (list(iter_features(tiny_v1, batch.clip)) for _ in range(2))
    assert all(torch.equal(one.map, other.map) for one, other in zip(first, second, strict=True))  # nothing is dropped
    assert [module.training for module in tiny_v1.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny_v1.modules())


def test_branches_are_what_the_skips_go_around(tiny_v1: MViT, tiny_cnn: nn.Module) -> None:
    assert [branch.name for branch in branches(tiny_v1)][:3] == ["blocks.0.attn", "blocks.0.mlp", "blocks.1.attn"]
    assert branches(tiny_v1)[0].module is tiny_v1.blocks[0].attn
    assert branches(tiny_cnn)[0].module is tiny_cnn.get_submodule("layers.0.bn2")


def test_a_net_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="Sequential has no known residual blocks"):
        list(iter_features(nn.Sequential(nn.Conv3d(3, 4, 1)), torch.randn(1, 3, 2, 4, 4)))


def test_tokens_without_a_grid_are_refused() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.attn, self.norm2, self.mlp = (nn.Identity() for _ in range(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.attn(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()

        def forward(self, clip: torch.Tensor) -> torch.Tensor:
            return self.block(clip.flatten(2).mT)

    with pytest.raises(ConfigError, match="block: the grid of its 32 tokens is unknown"):
        list(iter_features(Net(), torch.randn(1, 3, 2, 4, 4)))


def test_position_encodings_and_entries_of_stages_inside_blocks() -> None:
    net = mv.create_model("twins_pcpvt_small", depths=(2, 1, 1, 1), num_frames=2, crop_size=32, num_classes=3).eval()
    clip = torch.randn(1, 3, 2, 32, 32)
    features = list(iter_features(net, clip))
    assert [(feature.name, feature.kind) for feature in features[:8]] == [
        ("embed", "embed"), ("blocks.0.attn", "msa"), ("blocks.0.mlp", "mlp"), ("blocks.0.peg", "peg"),
        ("blocks.1.attn", "msa"), ("blocks.1.mlp", "mlp"), ("blocks.2.input", "pool"), ("blocks.2.attn", "msa"),
    ]  # fmt: skip
    assert features[6].map.shape == (1, 128, 2, 4, 4)
    with torch.no_grad():
        stages = net.forward_features(clip, stages=True).stages
    torch.testing.assert_close(features[-1].map, stages[-1])
    block = net.blocks[0]
    with torch.no_grad():
        encoded = block.peg(features[2].map.flatten(2).mT, THW(*features[2].map.shape[2:]))
    torch.testing.assert_close(features[3].map.flatten(2).mT, encoded)


class Mixing(nn.Module):
    """A block that no name gives away; it maps tokens and their grid as those of every family do."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inside = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, thw: THW) -> tuple[torch.Tensor, THW]:
        return x + self.inside(x - x.mean(dim=1, keepdim=True)), thw


class OfMixing(VideoNet):
    def __init__(self) -> None:
        super().__init__(num_classes=3, num_frames=4, crop_size=16, dropout=0.0)
        self.patch_embed = CubeEmbedding(8, THW(1, 4, 4), THW(1, 4, 4))
        self.blocks = nn.ModuleList([Mixing(8), Mixing(8)])
        self.head = self._new_head(3)

    @property
    def embed_dim(self) -> int:
        return 8

    def forward_features(self, clip: torch.Tensor, *, stages: bool = False) -> Features:
        x, thw = self.patch_embed(self._checked(clip))
        for block in self.blocks:
            x, thw = block(x, thw)
        return Features(x.mean(dim=1), x, thw, (tokens_to_grid(x, thw),) if stages else ())


def test_a_family_of_other_blocks_is_seen_between_them(make_batches: MakeBatches) -> None:
    torch.manual_seed(0)
    net = OfMixing().double().eval()
    (batch,) = make_batches(2)
    features = list(iter_features(net, batch.clip))
    assert [(feature.name, feature.kind) for feature in features] == [
        ("embed", "embed"), ("blocks.0", "block"), ("blocks.1", "block"),
    ]  # fmt: skip
    with torch.no_grad():
        assert torch.equal(features[-1].map, net.forward_features(batch.clip, stages=True).stages[-1])
    assert branches(net) == []
    assert lesion(net, [batch]).num_rows == 1
    for draw, study in ((draw_fourier, fourier), (draw_variance, variance), (draw_lesion, lesion)):
        assert draw(study(net, [batch])).axes
