"""Data of the page, also where files are missing."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mvit_video.cli import main
from mvit_video.evaluation.report import videos as listing
from mvit_video.evaluation.result import Decoding
from mvit_video.types import ConfigError, MVitVideoError, ViewSpec
from tests.fixtures.pages import DataOf, MakePage, MakeRun
from tests.fixtures.processes import Browse

SCORES = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.25, 0.25]])


def test_videos_and_their_guesses(make_run: MakeRun, make_page: MakePage, data_of: DataOf) -> None:
    data = data_of(make_page(make_run(SCORES, [0, 1, 1, 2, -1], ["a", "b", "c"])))
    assert data["names"] == ["a", "b", "c"]
    assert data["videos"]["path"] == [f"videos/{i}.mp4" for i in range(5)]
    assert data["videos"]["labels"] == [[0], [1], [1], [2], []]
    assert data["videos"]["guesses"][3:] == [[2, 0, 1], [0, 1, 2]]  # of equal classes the first
    assert data["videos"]["probability"][1] == [6000, 3000, 1000]
    assert data["videos"]["own"] == [[7000], [3000], [8000], [6000], []]
    assert data["mistakes"] == [1]
    assert sorted(data["counts"]) == [[0, 0, 1], [1, 0, 1], [1, 1, 1], [2, 2, 1]]
    assert data["classes"] == {
        "videos": [1, 2, 1], "value": [100, 50, 100], "precision": [50, 100, 100],
        "f1": [pytest.approx(200 / 3), pytest.approx(200 / 3), 100],
    }  # fmt: skip
    assert data["correct"] == [2, 0, 3]  # one of each class, by place
    assert data["pairs"] == [[1, 0, 1, 0, 2, 1]]
    assert data["examples"] == [[1, 0]]


def test_headline(make_run: MakeRun, make_page: MakePage) -> None:
    folder = make_run(
        SCORES, [0, 1, 1, 2, 0], ["a", "b", "c"], failures={4: "no video stream"}, decodings={0: Decoding("pyav", True)}
    )
    found = json.loads((folder / "metrics.json").read_text())
    page = make_page(folder)
    low, high = (found["intervals"]["top1"][side] for side in ("low", "high"))
    assert "top-5" not in page  # of three classes
    assert "<b>75.00\N{NO-BREAK SPACE}%</b><span>top-1</span>" in page
    assert f"95% interval {low:.2f} to {high:.2f}" in page
    assert "top-1 is 60.00 % if they count as wrong" in page
    assert "5 expected, 4 scored, 1 failed, 0 missing, 1 damaged" in page
    assert "slowfast, rate sampling" in page
    assert "2 clips x 1 crop, joined by sum" in page
    assert f"Brier score {found['metrics']['brier']:.4f}" in page
    for told in ("best.ckpt", "torch 2.x", "seed_everything: 3", "as asked"):
        assert told in page


def test_says_what_is_missing(make_run: MakeRun, make_page: MakePage, data_of: DataOf) -> None:
    folder = make_run(SCORES, [0, 1, 1, 2, 0])
    for name in ("metrics.json", "run.json", "config.yaml", "decoding.csv"):
        (folder / name).unlink()
    page = make_page(folder)
    assert "Missing files; their sections are left out: metrics.json, run.json, config.yaml, decoding.csv." in page
    assert data_of(page)["names"] == ["class 0", "class 1", "class 2"]
    assert "5 expected, 5 scored, 0 failed" in page


def test_says_what_is_damaged(make_run: MakeRun, make_page: MakePage) -> None:
    folder = make_run(SCORES, [0, 1, 1, 2, 0])
    (folder / "metrics.json").write_text('{"videos": ')
    (folder / "run.json").write_text("[1]")
    (folder / "robustness.parquet").write_bytes(b"PAR1")
    page = make_page(folder)
    for name in ("metrics.json", "run.json", "robustness.parquet"):
        assert f"{name} cannot be read: " in page


def test_tells_files_of_different_tests(make_run: MakeRun, make_page: MakePage) -> None:
    folder = make_run(SCORES, [0, 1, 1, 2, 0])
    found = json.loads((folder / "metrics.json").read_text())
    found["videos"]["scored"] = 1234
    (folder / "metrics.json").write_text(json.dumps(found))
    assert "metrics.json has 1,234 scored videos, predictions.parquet 5: they are of different" in make_page(folder)


def test_reads_predictions_without_newer_columns(make_run: MakeRun, make_page: MakePage, data_of: DataOf) -> None:
    folder = make_run(SCORES, [0, 1, 1, 2, 0])
    table = parquet.read_table(folder / "predictions.parquet").drop_columns(["damaged", "too_short", "backend"])
    parquet.write_table(table, folder / "predictions.parquet")
    assert data_of(make_page(folder))["flawed"] == {"total": 0, "listed": []}


def test_several_labels(make_run: MakeRun, make_page: MakePage, data_of: DataOf) -> None:
    labels = [[0, 2], [1], [], [2], [1, 2]]
    folder = make_run(SCORES, labels, failures={3: "empty"})
    found = json.loads((folder / "metrics.json").read_text())
    page = make_page(folder)
    data = data_of(page)
    assert data["videos"]["labels"] == [[0, 2], [1], [], [1, 2]]
    assert data["videos"]["own"] == [[7000, 1000], [3000], [], [2500, 2500]]
    assert data["mistakes"] == [1, 3]  # the more confident one first
    assert data["classes"] == {"videos": [1, 2, 2], "value": [one["average_precision"] for one in found["classes"]]}
    assert data["failures"]["listed"] == [["videos/3.mp4", [2], "empty"]]
    assert (data["counts"], data["pairs"]) == ([], [])
    assert f"{found['metrics']['mAP']:.2f}\N{NO-BREAK SPACE}%" in page


@pytest.mark.parametrize("names", [None, ["a", "b", "c"]])
def test_nothing_has_a_score(
    make_run: MakeRun, make_page: MakePage, data_of: DataOf, browse: Browse, names: list[str] | None
) -> None:
    failures = dict.fromkeys(range(5), "empty")
    page = make_page(make_run(SCORES, [0, 1, 1, 2, 0], names, failures=failures))
    data = data_of(page)
    assert data["videos"]["path"] == []
    assert (data["names"], data["classes"]["value"]) == (names or [], [None] * len(names or []))
    listed, complaints = browse(page, "return byId('failures').querySelectorAll('tbody tr').length")
    assert listed == 5
    assert complaints == []
    assert data["failures"]["total"] == 5


def test_no_video_has_a_label(make_run: MakeRun, make_page: MakePage, data_of: DataOf) -> None:
    data = data_of(make_page(make_run(SCORES, [-1] * 5)))
    assert (data["counts"], data["order"], data["mistakes"]) == ([], [], [])
    assert len(data["videos"]["path"]) == 5


def test_lists_the_mistakes_of_very_many_videos(
    make_run: MakeRun, make_page: MakePage, data_of: DataOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_MOST_VIDEOS", 3)
    page = make_page(make_run(SCORES, [0, 1, 1, 0, 0]))
    assert data_of(page)["videos"]["path"] == ["videos/1.mp4", "videos/2.mp4", "videos/3.mp4"]
    assert "The page lists 3 of 5 scored videos, mistakes first." in page
    monkeypatch.setattr(listing, "_MOST_PATH_BYTES", 2 * len("videos/1.mp4"))
    assert data_of(make_page(make_run(SCORES, [0, 1, 1, 0, 0])))["videos"]["path"] == ["videos/1.mp4", "videos/3.mp4"]


def test_needs_predictions(make_run: MakeRun, make_page: MakePage, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: there is no predictions\.parquet here"):
        make_page(tmp_path / "empty")
    folder = make_run(SCORES, [0, 1, 1, 2, 0])
    (folder / "predictions.parquet").write_bytes(b"no table")
    with pytest.raises(MVitVideoError, match=r"predictions\.parquet: cannot be read as Parquet"):
        make_page(folder)


def test_verb(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(SCORES, [0, 1, 1, 2, 0])
    assert main(["report", str(folder)]) == 0
    assert f"written: {folder / 'report.html'}" in capsys.readouterr().out
    page = (folder / "report.html").read_text()
    assert main(["report", str(folder / "predictions.parquet"), "--out", str(tmp_path / "pages" / "one.html")]) == 0
    page, elsewhere = (
        re.sub(' href="[^"]*"', "", one) for one in (page, (tmp_path / "pages" / "one.html").read_text())
    )
    assert elsewhere == page
    shutil.rmtree(folder)
    assert main(["report", str(folder)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {folder}: there is no {folder.name} here")


@pytest.mark.parametrize("name", ["robustness.parquet", "studies.parquet"])
def test_robustness_of_this_and_of_earlier_versions(name: str, make_run: MakeRun, make_page: MakePage) -> None:
    folder = make_run([[0.9, 0.1]], [0])
    row = {"study": "frame_order", "setting": "reversed", "severity": None, "metric": "top1", "value": 40.0}
    row |= {"low": 30.0, "high": 50.0}
    table = pa.Table.from_pylist([row]).replace_schema_metadata({"gigaflops_per_view": "70.5"})
    parquet.write_table(table, folder / name)
    page = make_page(folder)
    assert "<td>frame_order</td><td>reversed</td>" in page
    assert '<td class="number">30.00 to 50.00</td>' in page
    assert "Order of the frames" in page.split('<section id="robustness">')[1]


def test_mistakes_are_of_many_pairs(make_run: MakeRun, make_page: MakePage, data_of: DataOf) -> None:
    wrong = [[0.9, 0.05, 0.05]] * 30 + [[0.3, 0.4, 0.3]] * 2 + [[0.34, 0.33, 0.33]]
    data = data_of(make_page(make_run(wrong, [1] * 30 + [0] * 2 + [2])))
    assert len(data["mistakes"]) == 24
    assert {30, 31, 32} <= set(data["mistakes"])
    assert data["mistakes"][:3] == [0, 1, 2]  # the most confident ones come first


def test_pictures_of_a_test_without_mistakes(
    make_run: MakeRun, make_page: MakePage, data_of: DataOf, digits: Path
) -> None:
    paths = [str(path.relative_to(digits)) for path in sorted((digits / "val").rglob("*.mp4"))[:3]]
    data = data_of(make_page(make_run(np.eye(3), [0, 1, 2], paths=paths, root=digits)))
    assert (data["mistakes"], data["correct"]) == ([], [0, 1, 2])
    assert all(strip[0].startswith("data:image/jpeg;base64,") for strip in data["strips"].values())
    assert len(data["strips"]) == 3


def test_links_to_model_data_and_training(make_run: MakeRun, tmp_path: Path) -> None:
    made = make_run(SCORES, [0, 1, 1, 2, 0])
    folder, trained = tmp_path / "runs" / "a b" / "version_1", tmp_path / "runs" / "a b" / "version_0"
    shutil.copytree(made, folder)
    (trained / "checkpoints").mkdir(parents=True)
    for name in ("checkpoints/best.ckpt", "config.yaml"):
        (trained / name).write_text("")
    (trained / "curves.png").write_bytes(b"curves")
    (tmp_path / "val.csv").write_text("")
    (folder / "run.json").write_text('{"checkpoint": "runs/a b/version_0/checkpoints/best.ckpt"}')
    (folder / "config.yaml").write_text("model: {net: {class_path: mvit}}\ndata: {test: val.csv, val: gone.csv}\n")
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert 'href="../version_0/checkpoints/best.ckpt">runs/a b/version_0/checkpoints/best.ckpt</a>' in page
    assert 'href="../../../val.csv">val.csv</a>' in page
    assert 'href="../version_0/curves.png">curves.png</a>' in page
    assert '<span class="path">mvit</span>' in page
    assert 'src="data:image/png;base64,Y3VydmVz"' in page
    (tmp_path / "val.csv").unlink()
    assert main(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert '<span class="path">val.csv</span>' in page
    assert 'href="runs/a%20b/version_0/curves.png"' in page


def test_axis_of_views_has_whole_numbers_up_to_100_percent(make_run: MakeRun, make_page: MakePage) -> None:
    page = make_page(make_run(np.eye(3), [0, 1, 2], views=ViewSpec(3)))
    section = page.split('<section id="views">')[1].split("</section>")[0]
    ticks = [float(text) for text in re.findall(r">([\d.]+)</text>", section)]
    assert ticks[: ticks.index(97.5)] == [0, 1, 2, 3]
    assert max(ticks) == 100
