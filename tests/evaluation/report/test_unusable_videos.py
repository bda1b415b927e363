"""A test set with a corrupt, an empty and a too-short video, from the command line to the page."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from pyarrow import parquet

from mvit_video.cli import main
from mvit_video.data import load_annotations
from tests.fixtures.pages import DataOf
from tests.fixtures.processes import Browse

pytestmark = [
    pytest.mark.filterwarnings("ignore:without --ckpt_path the weights are:UserWarning"),
    # Lightning calls what jsonargparse has renamed
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


def write_short_video(path: Path, num_frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(num_frames):
            picture = np.full((64, 64, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def config(digits: Path, tmp_path: Path) -> Path:
    """Three good videos, a corrupt, an empty and a too-short one, to be tested by a tiny net."""
    table = load_annotations(digits / "val.csv")
    good = [table.locate(row).read_bytes() for row in range(3)]
    folder = tmp_path / "videos"
    folder.mkdir()
    for i, content in enumerate(good):
        (folder / f"good_{i}.mp4").write_bytes(content)
    (folder / "corrupt.mp4").write_bytes(good[0][: len(good[0]) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    write_short_video(folder / "short.mp4", 5)
    names = ["good_0", "corrupt", "good_1", "empty", "short", "good_2"]
    lines = [f"{name}.mp4,class {i % 4}" for i, name in enumerate(names)]
    (folder / "test.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    net = {
        "num_classes": 4, "num_frames": 2, "crop_size": 16, "depths": [1, 1], "embed_dim": 8,
        "patch": {"kernel": [1, 8, 8], "stride": [1, 8, 8]}, "pooling": {"stride_kv": [1, 1, 1]},
    }  # fmt: skip
    settings = {
        "seed_everything": 3,
        "trainer": {"accelerator": "cpu", "devices": 1},
        "model": {
            "net": {"class_path": "mvit_video.models.mvit", "init_args": net},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
        },
        "data": {
            "test": str(folder / "test.csv"), "input": {"crop_size": 16},
            "loading": {"num_workers": 0, "on_error": "skip"},
            "clip": {"num_frames": 2, "sampling_rate": 8}, "views": {"num_clips": 2, "short_side": 16},
        },
    }  # fmt: skip
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def test_are_told_in_table_file_and_page(
    config: Path, data_of: DataOf, browse: Browse, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    assert main(["test", "-c", config.name]) == 0
    tested = config.parent / "runs" / "tiny" / "version_0"
    printed = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "videos 4 of 6 videos failed 2 videos too short for a clip 1" in printed
    rows = {row["path"]: row for row in parquet.read_table(tested / "predictions.parquet").to_pylist()}
    reasons = {name: rows[f"{name}.mp4"]["status"] for name in ("corrupt", "empty")}
    assert "ok" not in reasons.values()
    assert len(set(reasons.values())) == 2
    assert [path for path, row in rows.items() if row["status"] == "ok"] == [
        "good_0.mp4", "good_1.mp4", "short.mp4", "good_2.mp4",
    ]  # fmt: skip
    assert [path for path, row in rows.items() if row["too_short"]] == ["short.mp4"]
    with (tested / "failures.csv").open() as file:
        assert [tuple(row.values()) for row in csv.DictReader(file)] == [
            (f"{name}.mp4", reason) for name, reason in reasons.items()
        ]

    assert main(["report", str(tested)]) == 0
    page = (tested / "report.html").read_text()
    data = data_of(page)
    assert "6 expected, 4 scored, 2 failed, 0 missing, 1 too short for a clip" in page
    assert data["failures"]["listed"] == [
        ["corrupt.mp4", [1], reasons["corrupt"]],
        ["empty.mp4", [3], reasons["empty"]],
    ]
    assert data["flawed"]["listed"] == [["short.mp4", [0], "too short for a clip: its last frame was repeated"]]
    assert data["names"] == [f"class {c}" for c in range(4)]
    script = """return ["#failures tbody", "#flawed tbody", ".card.bad"]
      .map(place => document.querySelector(place).innerText)"""
    (failures, flawed, card), complaints = browse(page, script)
    assert "corrupt.mp4" in failures
    assert reasons["empty"] in failures
    assert "short.mp4" in flawed
    assert card.startswith("2\nvideos failed")
    assert complaints == []
