"""Where configs are found."""

import shutil
from pathlib import Path

import pytest

from mvit_video.cli.configs import find_config, with_found_configs
from mvit_video.types import ConfigError


def test_config_falls_back_to_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packaged = tmp_path / "package"
    packaged.mkdir()
    (packaged / "demo.yaml").touch()
    monkeypatch.setattr("mvit_video.cli.configs.PACKAGED_CONFIGS", packaged)
    assert find_config("configs/demo.yaml") == find_config("demo.yaml") == str(packaged / "demo.yaml")
    with pytest.raises(ConfigError, match=r"-c other/demo.yaml: there is no such file; did you mean configs/demo.yaml"):
        find_config("other/demo.yaml")
    (tmp_path / "tiny.yaml").touch()
    for name, hint in [("tinny.yaml", "did you mean tiny.yaml?"), ("runs/config.yaml", "such as configs/demo.yaml")]:
        with pytest.raises(ConfigError) as caught:
            find_config(name)
        assert str(caught.value).endswith(hint)
    shutil.copytree(packaged, tmp_path / "configs")
    assert find_config("configs/demo.yaml") == "configs/demo.yaml"


def test_a_config_stands_on_its_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in [
        ("a", "ckpt_path: null"),
        ("b", "base: a.yaml"),
        ("c", "base: b.yaml"),
        ("bad", "base: none.yaml"),
    ]:
        (tmp_path / "configs").mkdir(exist_ok=True)
        (tmp_path / "configs" / f"{name}.yaml").write_text(text)
    words = with_found_configs(["fit", "-c", "configs/c.yaml", "--x", "1", "--config=configs/a.yaml"])
    files = ["configs/a.yaml", "configs/b.yaml", "configs/c.yaml"]
    bases = [word for file in files for word in ("--config", file)]
    assert words == ["fit", *bases, "--x", "1", "--config", "configs/a.yaml"]
    with pytest.raises(ConfigError, match=r"base: none.yaml: there is no configs/none.yaml"):
        with_found_configs(["fit", "-c", "configs/bad.yaml"])
    (tmp_path / "configs" / "a.yaml").write_text("base: c.yaml")
    with pytest.raises(ConfigError, match=r"base: configs/c.yaml is a delta on itself"):
        with_found_configs(["fit", "-c", "configs/c.yaml"])
    with pytest.raises(ConfigError, match="--base is a key of config files"):
        with_found_configs(["fit", "--base=configs/a.yaml"])
    (tmp_path / "configs" / "a.yaml").write_text("base: [1]")
    with pytest.raises(ConfigError, match=r"base must name a config file, got \[1\]"):
        with_found_configs(["fit", "-c", "configs/a.yaml"])
