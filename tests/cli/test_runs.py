"""Where configs and the folders of runs are found."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mvit_video.cli.configs import find_config, with_found_configs
from mvit_video.cli.runs import claim_version, find_checkpoint, run_name
from mvit_video.types import ConfigError

Run = Callable[..., int]


def test_config_falls_back_to_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packaged = tmp_path / "package"
    packaged.mkdir()
    (packaged / "demo.yaml").touch()
    monkeypatch.setattr("mvit_video.cli.configs.PACKAGED_CONFIGS", packaged)
    assert find_config("configs/demo.yaml") == find_config("demo.yaml") == str(packaged / "demo.yaml")
    with pytest.raises(ConfigError, match=r"-c other/demo.yaml: there is no such file; the package has .*demo.yaml"):
        find_config("other/demo.yaml")
    shutil.copytree(packaged, tmp_path / "configs")
    assert find_config("configs/demo.yaml") == "configs/demo.yaml"


def test_a_config_stands_on_its_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in [("a", "x: 1"), ("b", "base: a.yaml"), ("c", "base: b.yaml"), ("bad", "base: none.yaml")]:
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


@pytest.mark.parametrize(
    ("configs", "name"),
    [
        ([], "default"),
        (["configs/base.yaml", "configs/mvit_b_k400.yaml"], "mvit_b_k400"),
        (["runs/demo/version_3/config.yaml"], "demo"),
        (["config.yaml"], "config"),
    ],
)
def test_run_is_named_after_its_config(configs: list[str], name: str) -> None:
    assert run_name(configs) == name


def test_versions_are_claimed_once(tmp_path: Path) -> None:
    root = tmp_path / "runs" / "demo"
    assert [claim_version(root).name for _ in range(3)] == ["version_0", "version_1", "version_2"]
    (root / "version_1").rmdir()
    (root / "version_11x").mkdir()
    assert claim_version(root).name == "version_3"


def test_last_is_the_newest_of_all_versions(tmp_path: Path) -> None:
    for version, age in ((9, 3), (10, 1), (11, 2)):
        path = tmp_path / f"version_{version}" / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True)
        zipfile.ZipFile(path, "w").close()
        os.utime(path, (1000 - age, 1000 - age))
    assert find_checkpoint("last", tmp_path).parts[-3] == "version_10"
