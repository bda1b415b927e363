"""`model.net` by a model's bare name and `model.init_from` by a file alone, from the command line and from YAML."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from mvit_video.cli import main
from mvit_video.cli.configs import with_found_configs
from mvit_video.cli.parser import words_in_full

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


def settings_of(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["fit", "-c", "configs/demo.yaml", *words, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)["model"]


@pytest.mark.parametrize(
    "content",
    [
        {"model": {"net": "mvitv2_s_16x4", "init_from": "x.pth"}},
        {"model": {"net": {"class_path": "mvitv2_s_16x4"}, "init_from": {"path": "x.pth"}}},
        ["--model.net", "mvitv2_s_16x4", "--model.net.num_classes", "7", "--model.init_from", "x.pth"],
        ["--model.net=mvitv2_s_16x4", "--model.init_from=x.pth"],
    ],
    ids=["yaml", "yaml with class_path", "words", "words with ="],
)
def test_a_bare_name_is_the_builder_and_a_file_the_weights(
    content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "delta.yaml").write_text(json.dumps(content))
    (tmp_path / "x.pth").write_bytes(b"\x80\x02\xff\xfe")  # no YAML, which it was once taken for
    words = content if isinstance(content, list) else ["-c", str(tmp_path / "delta.yaml")]
    words = [word.replace("x.pth", str(tmp_path / "x.pth")) for word in words]
    found = settings_of([*words, "--model.init_from.strict", "false"], capsys)
    assert found["net"]["class_path"] == "mvit_video.models.mvitv2_s_16x4"
    assert Path(found["init_from"]["path"]).name == "x.pth"
    assert found["init_from"]["strict"] is False


def test_another_builder_drops_the_arguments_of_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    delta = tmp_path / "delta.yaml"
    delta.write_text("model: {net: {class_path: mvitv2_s_16x4, init_args: {crop_size: 48, drop_path_rate: 0.3}}}")
    with caplog.at_level(logging.INFO):
        found = settings_of(["--model.net.num_frames", "4", "-c", str(delta), "--model.net", "mvit_b_16x4"], capsys)
    arguments = {"num_classes": 4, "num_frames": 4, "crop_size": 48, "embed_dim": 96, "drop_path_rate": 0.2}
    assert found["net"]["class_path"] == "mvit_video.models.mvit_b_16x4"
    assert found["net"]["init_args"] | arguments == found["net"]["init_args"]
    first, second = (line for line in caplog.messages if "replaces" in line)
    assert first.startswith("model.net=mvitv2_s_16x4 replaces mvit; ignored: depths, embed_dim, num_heads, ")
    assert first.endswith("dropout of configs/demo.yaml")
    assert second == f"model.net=mvit_b_16x4 replaces mvitv2_s_16x4; ignored: drop_path_rate of {delta}"


def test_a_config_that_names_its_base_drops_them_silently() -> None:
    words = words_in_full(with_found_configs(["fit", "-c", "configs/demo_pvt.yaml", "--model.net.depths", "[1, 1]"]))
    assert [word for word in words if word.endswith("any_net")] == ["mvit_video.cli.parser.any_net"]
    assert words_in_full(words[1:3]) == words[1:3]  # the base alone


def test_a_name_that_is_nearly_right_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "-c", "configs/demo.yaml", "--model.net", "mvit_b_16x5"]) == 2
    assert "model.net: there is no model 'mvit_b_16x5'; did you mean mvit_b_16x4?" in capsys.readouterr().err


def test_other_words_stay() -> None:
    words = [
        "--model.net",
        "torch.nn.Linear",
        "--data.train",
        "mvit_b_16x4",
        "--model.init_from",
        "null",
        "--model.net",
    ]
    assert words_in_full(words) == words
    assert words_in_full(["--model.net=pvt"]) == ["--model.net", "mvit_video.models.pvt"]
    assert words_in_full(["--model.init_from={path: a.pth}"]) == ["--model.init_from", "{path: a.pth}"]
