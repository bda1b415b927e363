"""The verb `convert`, as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mvit_video as mv
from mvit_video.cli import main
from mvit_video.models import Pooling
from tests.fixtures.nets import ClipFor, MakeNet


@torch.no_grad()
def test_there_and_back_again(
    make_v1: MakeNet,
    clip_for: ClipFor,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    net = make_v1().float()
    mv.export_checkpoint(net, "a.pyth", format="slowfast")
    for source, target, to in (
        ("a.pyth", "b.safetensors", "mvit_video"),
        ("b.safetensors", "c.pth", "torchvision"),
        ("c.pth", "d.pyth", "pytorchvideo"),
        ("d.pyth", "e.pyth", "slowfast"),
    ):
        assert main(["convert", source, target, "--to", to]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert "0 missing, 0 unexpected, 0 resized" in printed[0]
        assert printed[-1] == f"wrote {target} ({to})"
    first, last = (torch.load(name, weights_only=True)["model_state"] for name in ("a.pyth", "e.pyth"))
    assert first.keys() == last.keys()
    assert all(torch.equal(first[key], last[key]) for key in first)


def test_mistakes_are_one_line(make_v1: MakeNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, path, out = make_v1(position="joint"), tmp_path / "net.safetensors", str(tmp_path / "out")
    mv.save_checkpoint(net, path)
    assert main(["convert", str(path), out, "--to", "torchvision"]) == 1
    assert capsys.readouterr().err == "error: cannot export to torchvision, which has no joint positions\n"
    assert main(["convert", str(tmp_path / "nowhere"), out, "--to", "slowfast"]) == 2
    assert "nowhere: there is no such file" in capsys.readouterr().err
    assert main(["convert", str(path), out, "--to", "timm"]) == 2
    assert main(["convert", "--help"]) == 0
    assert "mvit-video convert k400.pyth" in capsys.readouterr().out
    mv.export_checkpoint(make_v1(pooling=Pooling(mode="max", stride_kv=(1, 4, 4))), path, format="slowfast")
    assert main(["convert", str(path), out, "--to", "pytorchvideo"]) == 1
    assert "max or average pooling has none" in capsys.readouterr().err


def test_a_file_is_not_converted_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.pyth").write_bytes(b"precious")
    assert main(["convert", f"{tmp_path}/x.pyth", f"{tmp_path}/./x.pyth", "--to", "mvit_video"]) == 2
    assert "x.pyth is IN itself" in capsys.readouterr().err
    assert (tmp_path / "x.pyth").read_bytes() == b"precious"


def test_models_by_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--pattern", "mvitv2_[ts]"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "mvitv2_" in line]
    assert len(rows) == 2
    assert rows[1].split() == [
        "mvitv2_t", "1", "x", "224", "24.17", "4.7", "82.3", "ImageNet-1K", "centre", "arXiv:2112.01526",
    ]  # fmt: skip
