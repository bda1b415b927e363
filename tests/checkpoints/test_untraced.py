"""What no tensor shows: said when it is assumed, and kept in files of this project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg

import mvit_video as mv
from mvit_video.checkpoints import build_model, published_facts, read_checkpoint
from mvit_video.cli import main
from mvit_video.models import Pooling, variants
from mvit_video.models.published import IMAGENET_MEAN, IMAGENET_STD, TrainingFacts
from tests.fixtures.nets import MakeNet


def on_meta(name: str, **overrides: Any) -> Any:
    with torch.device("meta"):
        return mv.create_model(name, **overrides)


@pytest.mark.parametrize(
    "name", ["mvit_b_16x4", "mvit_b_32x3", "mvitv2_b_32x3", "mvitv2_l_40x3", "mvitv2_s", "pvt_tiny"]
)
def test_mean_and_std_are_facts_of_a_variant(name: str) -> None:
    facts, _ = published_facts(on_meta(name, num_classes=7))
    assert facts == variants()[name].facts
    is_gray = name in ("mvit_b_16x4", "mvit_b_32x3", "mvitv2_b_32x3")
    assert (facts.mean == (0.45, 0.45, 0.45)) == is_gray
    assert (facts.mean == IMAGENET_MEAN) == (facts.std == IMAGENET_STD) == (not is_gray)


def test_a_variant_keeps_its_facts_at_another_size_but_not_with_other_tensors() -> None:
    assert published_facts(on_meta("mvitv2_l_40x3", num_frames=32, crop_size=352))[0].mean == IMAGENET_MEAN
    maskfeat = on_meta("mvitv2_l_40x3", num_frames=16, crop_size=224, expand_in_attention=False)
    assert published_facts(maskfeat) == (TrainingFacts(), "clips")


def test_convert_prints_what_it_assumes_and_the_file_keeps_it(
    make_v2: MakeNet, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    mv.export_checkpoint(make_v2(), tmp_path / "net.pyth", format="slowfast")
    words = ["convert", str(tmp_path / "net.pyth"), str(tmp_path / "net.safetensors"), "--to", "mvit_video"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    lines = (
        "strides are not in the file; assumed as published: stride_q=(1, 2, 2), stride_kv=(1, 4, 4)",
        "head_pool is not in the file; assumed as published: cls (SlowFast with USE_MEAN_POOLING: mean_of_patches)",
        "assumed as published for clips: mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225), 4x4, softmax",
    )
    assert all(line in printed for line in lines)
    net = build_model(checkpoint=tmp_path / "net.safetensors")
    report = net.load_report
    assert report is not None
    assert all(line in str(report) for line in lines)
    assert all(line.startswith("assumed when converted: ") for line in report.assumed.values())
    assert report.facts == TrainingFacts()
    converted = [words[0], words[2], str(tmp_path / "chosen.safetensors"), *words[3:]]
    assert main([*converted, "--head-pool", "gap"]) == 0
    assert "head_pool is not in the file" not in capsys.readouterr().out  # nor is it assumed any more
    assert main([*words, "--head-pool", "gap"]) == 0
    assert "head_pool" not in capsys.readouterr().out
    assert mv.create_model(checkpoint=tmp_path / "net.safetensors").recipe.arguments["head_pool"] == "gap"
    # what was assumed before is not said to be assumed twice
    assert main(["convert", words[2], str(tmp_path / "again.safetensors"), "--to", "mvit_video"]) == 0
    assert "converted: assumed" not in capsys.readouterr().out
    facts = TrainingFacts((0.1, 0.2, 0.3), (1.0, 1.0, 2.0), 2, "sigmoid")
    mv.save_checkpoint(net, tmp_path / "net.safetensors", facts=facts)
    report = build_model(checkpoint=tmp_path / "net.safetensors").load_report
    assert report is not None
    assert (report.facts, report.assumed) == (facts, {})


FACTS = '{"mean": [0, 0, 0], "std": %s, "sampling_rate": %s, "activation": "%s"}'


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("training", "[]", "its metadata: not the text of training facts"),
        ("training", "[" * 100_000, "its metadata: not the text of training facts"),
        ("training", FACTS % ("[0, 1, 1]", 4, "softmax"), "std must be three numbers above 0"),
        ("training", FACTS % ("[1, 1, 1]", '"\\u001b"', "softmax"), "sampling_rate must be"),
        (
            "training",
            FACTS % ("[1, 1, 1]", 4, "relu"),
            "one of softmax, sigmoid, got 'relu'",
        ),
        ("assumed", '["a"]', "no lines under assumed"),
        ("assumed", "[" * 100_000, "no lines under assumed"),
    ],
)
def test_hostile_metadata_are_one_line(key: str, text: str, message: str, make_v1: MakeNet, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    mv.save_checkpoint(make_v1(), path)
    stored = read_checkpoint(path)
    save_file(stored.tensors, path, stored.metadata | {key: text})
    with pytest.raises(mv.CheckpointError, match=rf"net\.safetensors: .*{message}") as caught:
        mv.create_model(checkpoint=path)
    assert str(caught.value).isprintable()


def test_lines_of_a_file_are_shown_escaped(make_v1: MakeNet, tmp_path: Path) -> None:
    mv.save_checkpoint(make_v1(), tmp_path / "net.safetensors", assumed={"a": "red \x1b[31m\nline"})
    report = build_model(checkpoint=tmp_path / "net.safetensors").load_report
    assert report is not None
    assert report.assumed["a"] == r"assumed when converted: red \x1b[31m\nline"
    assert json.loads(read_checkpoint(tmp_path / "net.safetensors").metadata["assumed"])["a"].startswith("red")


@torch.no_grad()
@pytest.mark.parametrize("expand_attn", [True, False])
def test_a_file_of_timms_mvitv2_is_built(expand_attn: bool, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    settings = MultiScaleVitCfg(depths=(1, 2, 1, 1), embed_dim=16, expand_attn=expand_attn)  # pyright: ignore[reportArgumentType]
    peer = MultiScaleVit(settings, img_size=(64, 64), num_classes=5).double().eval()
    for name, parameter in peer.named_parameters():
        parameter.add_(0.1 * torch.randn_like(parameter) if parameter.ndim == 1 or "rel_pos" in name else 0)
    found = build_model(checkpoint=peer.state_dict())
    report = found.load_report
    assert report is not None
    assert (report.format, len(report.loaded), report.resized) == ("timm", len(peer.state_dict()), [])
    assert report.facts is not None
    assert (report.facts.mean, found.recipe.arguments["head_pool"]) == (IMAGENET_MEAN, "gap")
    found = found.double().eval()
    mv.load_checkpoint(found, peer.state_dict())  # in float64
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(found(image), peer(image), rtol=0, atol=1e-9)


def test_files_of_timm_with_a_class_token_are_as_the_published_code() -> None:
    settings = MultiScaleVitCfg(depths=(1, 1, 1, 1), embed_dim=16, use_cls_token=True)  # pyright: ignore[reportArgumentType]
    peer = MultiScaleVit(settings, img_size=(64, 64), num_classes=5)
    net = build_model(checkpoint=peer.state_dict())
    report = net.load_report
    assert report is not None
    assert "timm adds pooled queries to the class token too; nets here do not" in str(report)
    assert net.recipe.arguments["head_pool"] == "cls"


def test_what_another_code_base_does_not_have_is_refused_or_said(
    make_v2: MakeNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mean, gap = make_v2(head_pool="mean_of_patches"), make_v2(head_pool="gap")
    for net, format in ((mean, "torchvision"), (gap, "torchvision"), (gap, "slowfast")):
        with pytest.raises(mv.CheckpointError, match=f"{format}, which has no head_pool .* with a class token"):
            mv.export_checkpoint(net, tmp_path / "net.pth", format=format)
    mv.export_checkpoint(mean, tmp_path / "net.pth", format="slowfast")
    assert "set MVIT.USE_MEAN_POOLING in SlowFast" in caplog.text
    assert Pooling().norm_eps == 1e-6
