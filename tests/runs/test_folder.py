"""Names, versions, configs and checkpoints of run folders."""

import os
import zipfile
from pathlib import Path

import pytest

from mvit_video.runs.folder import (
    claim_version,
    find_checkpoint,
    next_version,
    read_config,
    run_name,
    run_of,
    run_with,
    versions,
)
from mvit_video.types import CheckpointError, ConfigError


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
    (root / "version_10").mkdir()
    assert [path.name for path in versions(root)] == ["version_0", "version_2", "version_10"]
    assert next_version(root) == root / "version_11"
    assert claim_version(root).name == "version_11"
    assert (versions(root / "nowhere"), next_version(root / "nowhere").name) == ([], "version_0")
    root.joinpath("file").touch()
    with pytest.raises(ConfigError, match=r"default_root_dir: cannot make a folder for the run at .*file"):
        claim_version(root / "file" / "runs")


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
        f"ckpt_path=best: {new}, the newest run, has no best.ckpt, because no validation gave it a finite score; "
        f"give ckpt_path=last, or ckpt_path={old}/checkpoints/best.ckpt, the best of an older run"
    )
    with pytest.raises(ConfigError, match="has no checkpoint; train first"):
        find_checkpoint("best", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"a folder; give one of its checkpoints \(.*best.ckpt, .*last.ckpt\)"):
        find_checkpoint(str(old), tmp_path)


def test_last_is_the_one_before_a_damaged_one(tmp_path: Path) -> None:
    run = _save(tmp_path / "version_0", "last", age=1)
    last, previous = (run / "checkpoints" / f"{name}.ckpt" for name in ("last", "previous"))
    last.replace(previous)
    last.write_bytes(b"PK")
    warnings: list[str] = []
    assert find_checkpoint("last", tmp_path, warn=warnings.append) == previous
    assert warnings == [f"{last} is truncated or damaged: resuming from {previous}, the one before it"]
    previous.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"ckpt_path=last: .* is truncated or damaged, and so are all before it"):
        find_checkpoint("last", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s3://bucket/last.ckpt", "ckpt_path=s3://bucket/last.ckpt: a URL; download the file and give its path"),
        ("lats", "ckpt_path=lats: there is no such file; did you mean last?"),
        ("{}/model.ckp", "ckpt_path={}/model.ckp: there is no such file or folder; did you mean {}/model.ckpt?"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_named_with_the_nearest(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(ConfigError) as caught:
        find_checkpoint(name.replace("{}", str(tmp_path)), tmp_path)
    assert str(caught.value) == message.replace("{}", str(tmp_path))


def test_the_config_and_the_run_of_a_checkpoint(tmp_path: Path) -> None:
    run = _save(tmp_path / "version_0", "last", age=1)
    assert run_with(run / "checkpoints" / "last.ckpt") == run
    assert run_with(tmp_path / "net.pth") is None
    assert read_config(tmp_path) == {}
    (run / "config.yaml").write_text("data: {crop_size: 32}\n")
    assert read_config(run) == {"data": {"input": {"crop_size": 32}}}  # a key of an earlier version
    (run / "config.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match=r"config.yaml: expected the config of a run, got a list"):
        read_config(run)
