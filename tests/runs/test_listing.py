"""The list of runs: their best metric and state, and the verb that prints it."""

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import pytest

from mvit_video.cli import main
from mvit_video.runs.listing import find_runs
from mvit_video.runs.record import RECORD, end_record, read_record, state_of, write_record
from mvit_video.types import ConfigError

CONFIG = "model: {net: {class_path: mvit_video.models.mvitv2_s, init_args: {num_classes: 3}}}"


def write_run(folder: Path, metrics: str = "", config: str = CONFIG, **record: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(metrics)
    (folder / "config.yaml").write_text(config)
    (folder / RECORD).write_text(json.dumps(record))
    return folder


def test_runs_are_listed_the_newest_first_with_their_best_metric(tmp_path: Path) -> None:
    csv = "epoch,train/loss,val/loss,val/top1\n0,2.0,,\n0,,1.5,40.5\n1,,1.2,61.25\n2,,1.1,nan\n3,,1.4,60\n"
    write_run(tmp_path / "demo" / "version_0", csv, started="2026-01-01T10:00:00+00:00", state="finished")
    test = write_run(tmp_path / "demo" / "version_1", started="2026-01-03T10:00:00+00:00", state="tested")
    (test / "metrics.json").write_text('{"metrics": {"top1": null, "mAP": 12.5}}')
    write_run(tmp_path / "own", "epoch,train/loss_epoch\n0,2.5\n1,2.25\n", "model: {net: a.b.net}", state="stopped")
    write_run(tmp_path / "x" / "bad", "\0", "[", started=3)
    (tmp_path / "x" / "bad" / RECORD).write_text("{")
    (tmp_path / "far" / "too" / "deep" / "run").mkdir(parents=True)
    (tmp_path / "far" / "too" / "deep" / "run" / RECORD).write_text("{}")
    found = find_runs(tmp_path)
    assert [(run.name, run.model, run.metric, run.state) for run in found] == [
        ("demo/version_1", "mvitv2_s", "test/mAP", "tested"), ("demo/version_0", "mvitv2_s", "val/top1", "finished"),
        ("x/bad", "", "", "finished"), ("own", "net", "train/loss_epoch", "stopped"),
    ]  # fmt: skip
    assert [run.value for run in found if run.metric] == [12.5, 61.25, 2.25]
    assert found[1].started is not None
    assert found[1].started.timestamp() == 1767261600
    assert [run.name for run in find_runs(tmp_path / "own")] == ["own"]
    with pytest.raises(ConfigError, match="folder=gone: there is no such folder"):
        find_runs(Path("gone"))


def test_a_run_without_an_end_runs_while_its_process_does(tmp_path: Path) -> None:
    write_record(tmp_path, checkpoint=None, seed=1, precision="32-true", num_processes=1, device="cpu")
    record = read_record(tmp_path)
    assert (record["host"], record["process"]) == (platform.node(), os.getpid())
    assert state_of(tmp_path, record) == "running"
    assert state_of(tmp_path, record | {"process": 2**22 + 1}) == "failed"  # above the largest number of a process
    assert state_of(tmp_path, record | {"host": "another"}) == "running"
    for file in tmp_path.iterdir():
        os.utime(file, (0, 0))
    assert state_of(tmp_path, record | {"host": "another"}) == "failed"
    assert state_of(tmp_path, {}) == "finished"
    end_record(tmp_path, "stopped")
    assert state_of(tmp_path, read_record(tmp_path)) == "stopped"
    assert read_record(tmp_path)["ended"] >= record["started"]
    end_record(tmp_path / "gone", "failed")
    assert not (tmp_path / "gone").exists()


def test_the_verb_prints_a_table_of_80_columns_or_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 2
    assert "FOLDER runs: there is no such folder" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    assert main(["runs"]) == 0
    assert "there are no runs in runs" in capsys.readouterr().out
    name = "mvitv2_s_16x4_on_our_own_data_with_a_long_name"
    write_run(tmp_path / "runs" / name / "version_10", "epoch,val/top1\n0,61.25\n", state="finished")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["runs"]) == 0
    printed = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert max(map(len, printed.splitlines())) <= 80
    for word in ("mvitv2_s", "61.25", "finished"):
        assert word in printed
    assert main(["runs", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["value"], found["started"]) == (f"{name}/version_10", 61.25, None)
