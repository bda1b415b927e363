"""No cell of a CSV file is a formula to a spreadsheet."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mvit_video.curation.packing import PackSettings, pack_videos
from mvit_video.curation.scanning import write_failures as write_scan
from mvit_video.data import VideoTable
from mvit_video.jobs import write_rows
from mvit_video.runs.results import write_failures as write_test
from mvit_video.training.output import write_csv

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]


def read(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_formulas_become_text_and_all_else_stays(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", [FORMULAS, ["a=1", 'a, "b"', "é\n2", ""], [-1, -0.5, None, True]])
    assert read(tmp_path / "rows.csv") == [
        [f"'{text}" for text in FORMULAS], ["a=1", 'a, "b"', "é\n2", ""], ["-1", "-0.5", "", "True"]
    ]  # fmt: skip


@pytest.mark.parametrize("writer", ["scan", "test", "pack", "run"])
def test_every_list_of_videos_is_written_so(writer: str, tmp_path: Path) -> None:
    path, name = tmp_path / "failures.csv", '=HYPERLINK("http://example.org").mp4'
    table = VideoTable(pa.array([name], pa.large_string()), np.zeros(1, np.int64), None, tmp_path)
    if writer == "scan":
        write_scan(pa.table({"path": [name], "kind": ["missing"], "reason": ["+none"]}), path)
    elif writer == "test":
        write_test(path, [(name, "+none")])
    elif writer == "run":
        write_csv(path, [("path", "reason"), (name, "+none")])
    else:
        path = tmp_path / "out" / "failures.csv"
        pack_videos(table, str(tmp_path / "out"), PackSettings())
    rows = read(path)
    assert rows[1][0] == f"'{name}"
    assert not any(cell.startswith(tuple("=+-@")) for row in rows for cell in row)
