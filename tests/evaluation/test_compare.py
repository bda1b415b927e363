"""Two tests side by side, through the verb."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mvit_video.cli.compare import run as compare
from mvit_video.runs.predictions import load_predictions
from mvit_video.types import ConfigError, MVitVideoError
from tests.fixtures.pages import MakeRun

Write = Callable[..., str]
NAMES = ("jump", "run", "sit")


@pytest.fixture
def write(make_run: MakeRun, tmp_path: Path) -> Write:
    """Write the predictions of a run; a prediction of -1 is a video that failed."""

    def write_run(
        name: str, labels: list[Any], predictions: list[int], paths: list[str] | None = None, names: Any = NAMES,
        spans: Any = None,
    ) -> str:  # fmt: skip
        scores = np.full((len(labels), 3), 0.1)
        scores[range(len(labels)), predictions] = 0.8
        paths = paths or [f"{i}.mp4" for i in range(len(labels))]
        failures = {i: "broken" for i, prediction in enumerate(predictions) if prediction < 0}
        return str(make_run(scores, labels, names, paths, tmp_path, failures, spans=spans).rename(tmp_path / name))

    return write_run


def as_json(*words: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert compare([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_counts_by_hand(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [0, 0, 1, 1, 2, 2, 2, -1]
    first = write("a", labels, [0, 1, 1, 1, 0, 0, -1, 0])
    second = write("b", labels, [0, 0, 0, 1, 2, 2, 2, 0])
    found = as_json(first, second, capsys=capsys)
    assert (found["num_videos"], found["num_left_out"]) == (6, 2)
    assert found["top1"] == pytest.approx([50, 500 / 6])
    assert found["difference"] == pytest.approx(200 / 6)
    assert found["p_value"] == 0.625  # 1 against 3 of 4: (1 + 4) / 16 on each side
    assert [one["path"] for one in found["only_first"]] == ["2.mp4"]
    assert [one["path"] for one in found["only_second"]] == ["1.mp4", "4.mp4", "5.mp4"]
    assert found["interval"]["low"] < found["difference"] < found["interval"]["high"]
    assert [(one["name"], one["num_videos"], one["difference"]) for one in found["classes"]] == [
        ("run", 2, -50), ("jump", 2, 50), ("sit", 2, 100),
    ]  # fmt: skip


def test_a_run_equals_itself(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    run = write("a", [0, 1, 2], [0, 2, 2])
    found = as_json(run, run, capsys=capsys)
    assert (found["difference"], found["p_value"], found["classes"], found["settings"]) == (0, 1, [], {})
    assert -found["interval"]["low"] == found["interval"]["high"] > 0  # other videos might have differed


def test_order_of_the_videos_does_not_matter(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    first = write("a", [0, 1, 2], [0, 0, 2])
    second = write("b", [2, 0, 1], [2, 1, 1], paths=["2.mp4", "0.mp4", "1.mp4"])
    found = as_json(first, second, capsys=capsys)
    assert ([one["path"] for one in found["only_first"]], found["difference"]) == (["0.mp4"], 0)


def test_segments_of_a_video_are_told_apart(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    spans = np.array([[0, 1], [1, np.inf], [np.nan, np.nan]])
    first = write("a", [0, 1, 2], [0, 0, 2], paths=["x.mp4"] * 3, spans=spans)
    second = write("b", [2, 1, 0], [2, 1, 1], paths=["x.mp4"] * 3, spans=spans[::-1])
    found = as_json(first, second, capsys=capsys)
    assert [(one["start"], one["end"]) for one in found["only_first"] + found["only_second"]] == [(0, 1), (1, None)]
    assert load_predictions(first).keys == [("x.mp4", 0, 1), ("x.mp4", 1, None), ("x.mp4", None, None)]


def test_the_tables(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [0, 0, 1, 1, 2, 2]
    words = [write("a", labels, [0, 1, 1, 1, 0, 0]), write("b", labels, [0, 0, 0, 1, 2, 2])]
    assert compare([*words, "--rows", "2"]) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", "").split())
    for text in (
        "B minus A +33.33 (95%: ", "McNemar's p 0.62", "Classes that changed (3)", "sit 2 0.0 100.0 +100.0",
        "Right only in A (1)", "2.mp4 run run jump", "Right only in B (3)", "1.mp4 jump run jump",
    ):  # fmt: skip
        assert text in printed
    assert "5.mp4" not in printed


def test_a_long_path_is_folded_not_cut(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"COLUMNS": "80", "TTY_COMPATIBLE": "1", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    path = f"{'folder/' * 20}0.mp4"
    runs = [write("a", [0], [0], paths=[path]), write("b", [0], [1], paths=[path])]
    assert compare(runs) == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).split("Right only in A")[1].splitlines()
    assert max(map(len, lines)) <= 80
    assert path in "".join(line.split("│")[1].strip() for line in lines if line.count("│") == 5)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"paths": ["0.mp4", "x.mp4"]}, r"different videos: 1\.mp4 is in .*a/predictions.parquet alone"),
        ({"labels": [0, 1, 2], "predictions": [0, 1, 2]}, r"different videos: 2\.mp4 is in .*b/predictions.parquet"),
        ({"labels": [0, 2]}, r"1\.mp4 has label 1 in .*a/predictions.parquet but 2 in .*b/predictions.parquet"),
        ({"names": ("jump", "walk", "sit")}, r"class 1 is 'run' in .* but 'walk' in"),
        ({"names": ("jump", "run")}, r"class 2 is 'sit' in .* but None in"),
        ({"predictions": [-1, -1]}, r"have no video with a label that both scored"),
        ({"labels": [[0], [1]]}, r"b/predictions.parquet: its videos have several labels each"),
    ],
)
def test_refuses_what_cannot_be_compared(write: Write, second: dict[str, Any], message: str) -> None:
    first = write("a", [0, 1], [0, 1])
    with pytest.raises(ConfigError, match=message):
        compare([first, write("b", **({"labels": [0, 1], "predictions": [0, 1]} | second))])


def test_names_what_is_no_test(write: Write, tmp_path: Path) -> None:
    run = write("a", [0, 1], [0, 1])
    with pytest.raises(ConfigError, match=r"nowhere: there is no nowhere here"):
        compare([run, str(tmp_path / "nowhere")])
    with pytest.raises(ConfigError, match=r"there is no predictions\.parquet here"):
        compare([run, str(tmp_path)])
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(MVitVideoError, match=r"text\.parquet: cannot be read as Parquet"):
        compare([run, str(tmp_path / "text.parquet")])
    pa.parquet.write_table(pa.table({"path": ["0.mp4"]}), tmp_path / "other.parquet")
    with pytest.raises(MVitVideoError, match=r"other\.parquet: these are no predictions of a test, start is missing"):
        compare([run, str(tmp_path / "other.parquet")])


def test_needs_neither_torch_nor_lightning(write: Write) -> None:
    run = write("a", [0, 1], [0, 1])
    code = f"import sys; from mvit_video.cli import compare; compare.run([{run!r}] * 2); print(set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'pyarrow'" in printed
    assert "'torch'" not in printed
    assert "'lightning'" not in printed
