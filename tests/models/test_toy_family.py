"""A family added by the steps of CONTRIBUTING.md is everywhere, with no edit elsewhere."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import mvit_video as mv
from mvit_video.checkpoints import read_checkpoint
from mvit_video.cli import main
from mvit_video.models import FAMILIES

NET = """
import torch
from torch import nn

from mvit_video.models.net import Features, VideoNet
from mvit_video.nn import CubeEmbedding, MultiscaleBlock, PoolingAttention
from mvit_video.types import THW


class Toy(VideoNet):
    def __init__(self, depths, dim, *, num_classes, num_frames, crop_size):
        super().__init__(num_classes=num_classes, num_frames=num_frames, crop_size=crop_size, dropout=0.0)
        self.patch_embed = CubeEmbedding(dim, THW(2, 8, 8), THW(2, 8, 8))
        self.gains = nn.ParameterList([nn.Parameter(torch.ones(dim)) for _ in range(sum(depths))])
        self.blocks = nn.ModuleList([
            MultiscaleBlock(PoolingAttention(dim, dim, 2), dim, dim, dim) for _ in range(sum(depths))
        ])
        self.norm = nn.LayerNorm(dim)
        self.head = self._new_head(num_classes)

    @property
    def embed_dim(self):
        return self.norm.normalized_shape[0]

    def forward_features(self, clip, *, stages=False):
        x, thw = self.patch_embed(self._checked(clip))
        for gain, block in zip(self.gains, self.blocks):
            x, thw = self._run(block, x * gain, thw)
        x = self.norm(x)
        return Features(embedding=x.mean(dim=1), tokens=x, thw=thw)
"""
VARIANTS = """
from dataclasses import dataclass
from typing import Any

from mvit_video.models.net import builder

from toy_family.net import Toy


@dataclass(frozen=True)
class Width:
    dim: int = 16


@builder
def toy(*, num_classes: int = 4, num_frames: int = 8, crop_size: int = 32, depths: tuple[int, ...] = (1, 1),
        width: Width = Width()) -> Toy:
    \"\"\"Any Toy.\"\"\"
    return Toy(depths, width.dim, num_classes=num_classes, num_frames=num_frames, crop_size=crop_size)


def toy_small(*, depths: tuple[int, ...] = (1,), **overrides: Any) -> Toy:
    \"\"\"Toy-Small.\"\"\"
    return toy(depths=depths, **overrides)
"""
PUBLISHED = """
from mvit_video.models.published import ModelSize, Variant

PUBLISHED = {"toy_small": Variant(ModelSize(8, 32, 12_852, 1), 12.5, "arXiv:0000.00000", "Toys")}
"""
FAMILY = """
from mvit_video.models.family import Family

from toy_family import variants
from toy_family.net import Toy
from toy_family.published import PUBLISHED

FAMILY = Family(Toy, (variants,), PUBLISHED)
"""
FILES = {"__init__": "", "net": NET, "variants": VARIANTS, "published": PUBLISHED, "family": FAMILY}


@pytest.fixture(autouse=True)
def toy_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "toy_family"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy_family"]:
        monkeypatch.delitem(sys.modules, name)
    FAMILIES.append("toy_family")
    yield
    FAMILIES.remove("toy_family")


def config(tmp_path: Path, digits: Path) -> Path:
    """The demo's, with the toy's net and one step of training."""
    content = yaml.safe_load(Path("configs/demo.yaml").read_text())
    content["model"]["net"] = {"class_path": "mvit_video.models.toy_small", "init_args": {"width": {"dim": 24}}}
    content["data"] |= {"train": str(digits / "train.csv"), "val": str(digits / "val.csv")}
    content["trainer"] |= {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1}
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_it_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "toy_small" in mv.list_models()
    assert main(["models", "toy*"]) == 0
    assert {"12.5", "Toys"} <= set(capsys.readouterr().out.split())


@torch.no_grad()
def test_it_is_saved_loaded_and_copied(tmp_path: Path) -> None:
    net = mv.create_model("toy_small", num_classes=3).eval()
    clip = torch.randn(2, 3, 8, 32, 32)
    mv.save_checkpoint(net, tmp_path / "toy.safetensors", class_names=["a", "b", "c"])
    assert read_checkpoint(tmp_path / "toy.safetensors").class_names == ("a", "b", "c")
    again = mv.create_model(checkpoint=tmp_path / "toy.safetensors").eval()
    assert again.recipe == net.recipe == copy.deepcopy(net).recipe
    assert again.load_report.missing == again.load_report.unexpected == []
    by_name = mv.create_model("toy_small", num_classes=3, checkpoint=net.state_dict()).eval()
    for found in (again, by_name):
        assert torch.equal(found(clip), net(clip))
    again.reset_classifier(7)
    mv.save_checkpoint(again, tmp_path / "more.safetensors")
    assert mv.create_model(checkpoint=tmp_path / "more.safetensors").num_classes == 7
    with pytest.raises(mv.CheckpointError, match="cannot export to slowfast, which has no Toy"):
        mv.export_checkpoint(net, tmp_path / "toy.pyth", format="slowfast")
    with pytest.raises(mv.CheckpointError, match="1 unexpected"):
        mv.load_checkpoint(net, net.state_dict() | {"gain": torch.zeros(1)})


@pytest.mark.filterwarnings("ignore")  # of jsonargparse, and of Lightning for a run of one step
def test_it_is_trained_from_yaml_converted_and_analysed(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = config(tmp_path, digits)
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "-c", str(file)]) == 0
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    net = mv.create_model(checkpoint=checkpoint)
    assert type(net).__name__ == "Toy"
    assert net.embed_dim == 24
    assert main(["convert", str(checkpoint), "toy.safetensors", "--to", "mvit_video"]) == 0
    assert mv.create_model(checkpoint="toy.safetensors").recipe == net.recipe
    run = checkpoint.parents[1]
    assert main([
        "analyse", str(run), "--data", str(digits / "val.csv"), "--out", "out", "--clips", "4", "--batch-size", "4",
        "--study", "variance",
    ]) == 0  # fmt: skip
    assert (tmp_path / "out" / "variance.parquet").is_file()
