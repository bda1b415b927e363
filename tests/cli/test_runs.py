"""Where configs and the folders of runs are found."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mvit_video.cli.configs import find_config, with_found_configs
from mvit_video.cli.runs import claim_version, find_checkpoint, run_name, run_of
from mvit_video.types import ConfigError

Run = Callable[..., int]


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


def _save(folder: Path, *names: str, age: int) -> Path:
    """A run with empty checkpoints, which are `age` seconds old."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").touch()
    for name in names:
        path = folder / "checkpoints" / f"{name}.ckpt"
        zipfile.ZipFile(path, "w").close()
        os.utime(path, (1000 - age, 1000 - age))
    return folder


@pytest.mark.parametrize("name", ["best", "last"])
def test_the_config_of_a_run_means_the_checkpoints_of_that_run(name: str, tmp_path: Path) -> None:
    run = _save(tmp_path / "version_1", "best", "last", age=9)
    _save(tmp_path / "version_36", "best", "last", age=1)
    configs = ["configs/base.yaml", str(run / "config.yaml"), "views.yaml"]
    assert run_of(configs) == run
    assert find_checkpoint(name, tmp_path, run_of(configs)) == run / "checkpoints" / f"{name}.ckpt"
    kept = run.rename(tmp_path / "kept")  # a folder that was renamed is a run still
    assert run_of([str(kept / "config.yaml")]) == kept
    assert run_name([str(kept / "config.yaml")]) == "kept"
    assert run_of(["configs/base.yaml", "config.yaml"]) is None
    (kept / "checkpoints" / f"{name}.ckpt").unlink()
    with pytest.raises(ConfigError, match=f"kept has no {name}.ckpt|last: {kept} has no last.ckpt; there is"):
        find_checkpoint(name, tmp_path, kept)


def test_best_is_never_that_of_an_older_run(tmp_path: Path) -> None:
    old = _save(tmp_path / "version_0", "best", "last", age=9)
    assert find_checkpoint("best", tmp_path) == old / "checkpoints" / "best.ckpt"
    new = _save(tmp_path / "version_1", "last", age=1)
    with pytest.raises(ConfigError) as caught:
        find_checkpoint("best", tmp_path)
    assert str(caught.value) == (
        f"--ckpt_path best: {new}, the newest run, has no best.ckpt, because no validation gave it a finite score; "
        f"give --ckpt_path last, or --ckpt_path {old}/checkpoints/best.ckpt, the best of an older run"
    )
    with pytest.raises(ConfigError, match="has no checkpoint; train first"):
        find_checkpoint("best", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"a folder; give one of its checkpoints \(.*best.ckpt, .*last.ckpt\)"):
        find_checkpoint(str(old), tmp_path)
