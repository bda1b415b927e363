"""The verbs of data as a user meets them: `scan` and `prepare`."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mvit_video.cli import USAGE, VERBS, main
from mvit_video.data import load_annotations
from mvit_video.data.readers import open_video

JOBS = ("scan", "prepare", "pack")
Output = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of two classes with three good videos, of which two are equal, and one that is empty."""
    from av import VideoFrame
    from av import open as open_container

    cooking, running = tmp_path / "videos" / "cooking", tmp_path / "videos" / "running"
    cooking.mkdir(parents=True)
    running.mkdir()
    for number, name in enumerate(("a.mp4", "b.mp4")):
        with open_container(str(cooking / name), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for i in range(30):
                picture = np.full((64, 96, 3), 8 * i if number else 100, np.uint8)
                container.mux(stream.encode(VideoFrame.from_ndarray(picture)))
            container.mux(stream.encode())
    shutil.copy(cooking / "b.mp4", running / "c.mp4")
    (running / "empty.mp4").write_bytes(b"")
    return tmp_path / "videos"


def test_help_lists_every_verb_once(capsys: Output) -> None:
    assert main(["--help"]) == 0
    listed = re.findall(r"^  (\w+) {2,}\w", capsys.readouterr().out.split("options of every verb")[0], re.MULTILINE)
    assert listed == list(VERBS)
    assert USAGE.count("mvit-video scan") == 1


def test_scan_reports_and_leaves_a_manifest_to_train_on(data: Path, tmp_path: Path, capsys: Output) -> None:
    out = tmp_path / "scan"
    assert main(["scan", str(data), "--out", str(out), "--workers", "2"]) == 1
    shown = capsys.readouterr().out
    for text in ("empty", "2 classes", "decord", "with contradictory labels", "3 of 4 videos can be used", "96 x 64"):
        assert text in shown, shown
    page = (out / "report.html").read_text()
    assert "running/empty.mp4" in page
    assert "is an empty file" in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)  # nothing is fetched
    table = load_annotations(out / "manifest.parquet")
    assert (len(table), table.class_names) == (3, ("cooking", "running"))
    with open_video(table.locate(0)) as reader:
        assert reader.num_frames == 30
    (data / "running" / "empty.mp4").unlink()
    assert main(["scan", str(data), "--out", str(out), "--workers", "2"]) == 0
    assert "3 of 3 videos can be used" in capsys.readouterr().out
    assert (out / "failures.csv").read_text().splitlines() == ["path,kind,reason"]


def test_prepare_leaves_a_data_set_to_train_on(data: Path, tmp_path: Path, capsys: Output) -> None:
    pytest.importorskip("decord")
    out = tmp_path / "small"
    assert main(["prepare", str(data), "--out", str(out), "--workers", "2", "--short-side", "32"]) == 1
    shown = capsys.readouterr().out
    for text in ("3 of 4 videos encoded", "1 empty: failed", f"{out}/annotations.parquet"):
        assert text in shown
    table = load_annotations(out / "annotations.parquet")
    assert table.class_names == ("cooking", "running")
    with open_video(table.locate(2)) as reader:
        assert (reader.num_frames, reader.height, reader.width, reader.backend) == (30, 32, 48, "decord")


def test_nothing_is_offered_for_training_where_no_video_can_be_used(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "empty.mp4").write_bytes(b"")
    for verb, told in (("scan", "0 of 1 videos can be used"), ("prepare", "0 of 1 videos encoded")):
        assert main([verb, str(tmp_path / "bad"), "--out", str(tmp_path / verb), "--workers", "1"]) == 1
        shown = capsys.readouterr().out
        assert told in shown
        assert "data.train" not in shown


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["scan", "nowhere.csv", "--out", "out"],
            2,
            "nowhere.csv: there is no such file or folder; docs/guides/videos.md",
        ),
        (["scan", "videos"], 2, "--out"),
        (["scan", "videos", "--out", "out", "--workers", "0"], 2, "--workers: must be a whole number above 0, got '0'"),
        (
            ["scan", "videos", "--out", "out", "--time-limit", "-1"],
            2,
            "--time-limit: must be a number above 0, got '-1'",
        ),
        *(([verb, "videos", "--out", "videos/new"], 2, "lies in the folder videos of") for verb in JOBS),
        *(([verb, "pictures", "--out", "out"], 2, f"{verb} is for videos, 'cat/1.jpg' is an image") for verb in JOBS),
        (
            ["prepare", "videos", "--out", "out", "--short-side", "7"],
            2,
            "--short-side must be an even number of pixels",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str], code: int, message: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(data.parent)
    (data.parent / "pictures" / "cat").mkdir(parents=True)
    (data.parent / "pictures" / "cat" / "1.jpg").write_bytes(b"")
    assert main(words) == code
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not (data.parent / "out").exists()


# what is known is on disk soon, and the scan waits to be stopped
SLOWLY = """
import pathlib, sys, time
from mvit_video.cli import main
from mvit_video.jobs import folder

folder._ROWS_PER_PART = 5
flush = folder.Ledger.flush
waited = []
def wait_at_two(self):
    flush(self)
    if not waited and len(list(pathlib.Path(sys.argv[4], "checked").glob("*.parquet"))) == 2:
        waited.append(True)
        pathlib.Path(sys.argv[4] + ".waits").touch()  # a signal before this would end in a second wait
        time.sleep(600)
folder.Ledger.flush = wait_at_two
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_scan_that_is_stopped_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    for i in range(100):
        (data / "cooking" / f"{i}.mp4").write_bytes((data / "cooking" / "a.mp4").read_bytes())
    words = ["scan", str(data), "--out", str(tmp_path / "scan"), "--workers", "2"]
    with subprocess.Popen([sys.executable, "-c", SLOWLY, *words], stderr=subprocess.PIPE, text=True) as run:
        while run.poll() is None and not (tmp_path / "scan.waits").exists():
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        told = run.communicate(timeout=600)[1]
    assert run.returncode == 130, told
    assert re.fullmatch(r"stopped with ([1-9]\d*) of 104 videos checked; the same command does the rest\n", told)
