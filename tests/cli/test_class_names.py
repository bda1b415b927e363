"""Names of classes: kept by this project's own format, and given to any verb that shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mvit_video.checkpoints import read_checkpoint
from mvit_video.cli import main
from mvit_video.features.store import load_features
from mvit_video.runs.trained_model import load_model
from tests.fixtures.features import StoreFeatures, WriteRun

NAMES = ["left", "right", "up"]
VERBS = ("classify", "extract", "analyse", "convert", "report", "compare", "search", "probe", "knn", "scan")


@pytest.fixture
def names_file(tmp_path: Path) -> Path:
    (tmp_path / "names.txt").write_text("links\nrechts\noben\n")
    return tmp_path / "names.txt"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_names_classes_takes_their_names(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert "--class-names FILE" in capsys.readouterr().out


def test_convert_keeps_the_names_or_takes_others(
    write_run: WriteRun, names_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = write_run({}, NAMES), tmp_path / "net.safetensors"
    assert main(["convert", str(run), str(out), "--to", "mvit_video"]) == 0
    assert load_model(str(out)).class_names == tuple(NAMES)
    assert main(["convert", str(out), str(tmp_path / "again.safetensors"), "--to", "mvit_video"]) == 0
    assert read_checkpoint(tmp_path / "again.safetensors").class_names == tuple(NAMES)
    words = ["convert", str(run), str(out), "--class-names", str(names_file), "--to"]
    assert main([*words, "mvit_video"]) == 0
    assert read_checkpoint(out).class_names == ("links", "rechts", "oben")
    capsys.readouterr()
    assert main(["convert", str(out), str(tmp_path / "net.pyth"), "--to", "slowfast"]) == 0
    assert "files of slowfast hold no class names: the 3 of" in capsys.readouterr().out
    assert main([*words, "slowfast"]) == 2
    assert "files of slowfast hold no class names; leave it out" in capsys.readouterr().err
    names_file.write_text("one\n")
    assert main([*words, "mvit_video"]) == 2
    assert capsys.readouterr().err == f"error: --class-names holds 1 names, {run} has 3 classes\n"


def test_features_of_random_weights_are_told_of_where_they_are_used(
    store_features: StoreFeatures, caplog: pytest.LogCaptureFixture
) -> None:
    folder = store_features(np.eye(3, dtype=np.float32), ["a.mp4", "b.mp4", "c.mp4"])
    load_features(folder)
    assert caplog.text == ""
    (folder / "extract.json").write_text(json.dumps({"checkpoint": None}))
    load_features(folder)
    assert f"{folder}: features of random weights, so they mean nothing" in caplog.text


def write_predictions(folder: Path, **metadata: str) -> Path:
    folder.mkdir()
    scores = [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]
    unknown = pa.array([None, None], pa.float64())
    columns: dict[str, Any] = {
        "path": ["a.mp4", "b.mp4"], "start": unknown, "end": unknown, "label": [1, 2], "prediction": [0, 2],
        "probabilities": pa.array(scores, pa.list_(pa.float32())), "status": ["ok", "ok"],
    }  # fmt: skip
    parquet.write_table(pa.table(columns, metadata={"num_clips": "1", **metadata}), folder / "predictions.parquet")
    return folder


def test_report_and_compare_show_given_names(
    names_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_predictions(tmp_path / "a")
    second = write_predictions(tmp_path / "b")
    given = ["--class-names", str(names_file)]
    assert main(["report", str(first), *given]) == 0
    page = (first / "report.html").read_text()
    assert '"names":["links","rechts","oben"]' in page
    assert main(["compare", str(first), str(second), *given]) == 0
    names_file.write_text("one\ntwo\n")
    capsys.readouterr()
    assert main(["report", str(first), *given]) == 2
    assert "--class-names holds 2 names, " in capsys.readouterr().err


def test_verbs_on_features_show_given_names(
    store_features: StoreFeatures, names_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = np.eye(6, dtype=np.float32)
    folder = store_features(vectors, [f"{i}.mp4" for i in range(6)], [0, 1, 2, 0, 1, 2])
    given = ["--class-names", str(names_file)]
    assert main(["search", str(folder), "--query", "2.mp4", "-k", "2", *given]) == 0
    assert "oben" in capsys.readouterr().out
    assert main(["knn", str(folder), "--out", str(tmp_path / "knn"), *given]) == 0
    metadata = parquet.read_schema(tmp_path / "knn" / "predictions.parquet").metadata
    assert json.loads(metadata[b"class_names"]) == ["links", "rechts", "oben"]
    names_file.write_text("one\n")
    assert main(["knn", str(folder), *given]) == 2
    assert f"--class-names holds 1 names, {folder} has class 2" in capsys.readouterr().err
