"""The multi-view test: what it reports, what it writes, and what it refuses."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pyarrow import parquet

from mvit_video.data.annotations import load_annotations
from mvit_video.evaluation import VideoPredictions, write_gallery
from mvit_video.evaluation.multiview import check_views, describe
from mvit_video.types import MVitVideoError, VideoDecodeError, ViewSpec

Make = Callable[..., Any]
pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]


@pytest.fixture
def broken(digits: Path, tmp_path: Path) -> Path:
    """The digits' annotations with a third row that is no video."""
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    lines = (digits / "val.csv").read_text().splitlines()
    rows = [f"{digits / path},{label}" for path, label in (line.split(",") for line in lines[1:])]
    file = tmp_path / "broken.csv"
    file.write_text("\n".join([lines[0], *rows[:2], f"broken.mp4,{rows[0].split(',')[1]}", *rows[2:]]) + "\n")
    return file


def test_reports_and_writes(
    make_data: Make, run_test: Make, oracle: Make, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(frame_order="reversed")
    trainer = run_test(data, oracle({1: 0, 6: 0}))
    labels = load_annotations(digits / "val.csv").labels.tolist()
    num_right = sum(label == (0 if row in (1, 6) else label) for row, label in enumerate(labels))
    assert float(trainer.callback_metrics["test/top1"]) == 100 * num_right / 8
    assert float(trainer.callback_metrics["test/top5"]) == 100
    assert set(trainer.callback_metrics) == {"test/top1", "test/top5", "test/mean_class"}

    printed = capsys.readouterr().out
    for text in ("8 of 8", "2 clips x 3 crops", "reversed", f"{100 * num_right / 8:.2f}", "predictions.parquet"):
        assert text in printed

    table = parquet.read_table(tmp_path / "run" / "predictions.parquet")
    assert table["path"].to_pylist() == load_annotations(digits / "val.csv").paths.to_pylist()
    assert table["label"].to_pylist() == labels
    assert table["prediction"].to_pylist() == [0 if row in (1, 6) else label for row, label in enumerate(labels)]
    assert table["num_views"].to_pylist() == [6] * 8
    assert table["status"].to_pylist() == ["ok"] * 8
    assert table["probabilities"][0].as_py() == pytest.approx([0.7 if c == labels[0] else 0.1 for c in range(4)])
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    names = metadata.pop("class_names", "null")
    assert json.loads(names) == (list(data.class_names) if data.class_names else None)
    assert metadata == {"root": str(digits), "num_clips": "2", "num_crops": "3", "frame_order": "reversed"}
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["predictions.parquet"]


@pytest.mark.filterwarnings("ignore:.* 1 of 9 videos are not under:UserWarning")
def test_counts_the_videos_that_are_not_there(
    make_data: Make, run_test: Make, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = load_annotations(digits / "val.csv")
    videos = [(Path(listed.path(row)).stem, f"class {listed.label_of(row)}") for row in range(8)]
    lines = [f"{label},{name},0,10,val" for name, label in [*videos, ("elsewhere", "class 0")]]
    source = tmp_path / "val.csv"
    source.write_text("\n".join(["label,youtube_id,time_start,time_end,split", *lines]) + "\n")
    run_test(make_data(test=str(source), root=str(digits / "val")))
    printed = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "videos 8 of 8" in printed
    assert "videos missing 1" in printed


def test_lists_a_video_that_cannot_be_read(
    make_data: Make, run_test: Make, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = run_test(make_data(test=str(broken), on_error="skip"))
    assert float(trainer.callback_metrics["test/top1"]) == 100
    printed = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "videos 8 of 9" in printed
    assert "videos failed 1" in printed
    row = parquet.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()[2]
    assert (row["path"], row["prediction"], row["probabilities"], row["num_views"]) == ("broken.mp4", -1, None, 0)
    with (tmp_path / "run" / "failures.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"path": "broken.mp4", "reason": row["status"]}]


def test_stops_at_a_video_that_cannot_be_read(make_data: Make, run_test: Make, broken: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoDecodeError, match=r"broken\.mp4"):
        run_test(make_data(test=str(broken)))
    assert not (tmp_path / "run").exists()


def test_says_what_a_limit_left_out(make_data: Make, run_test: Make, tmp_path: Path) -> None:
    run_test(make_data(), limit_test_batches=1)
    status = parquet.read_table(tmp_path / "run" / "predictions.parquet")["status"].to_pylist()
    assert status == ["ok"] * 3 + ["left out by trainer.limit_test_batches"] * 5


def test_lists_a_video_whose_probabilities_are_not_finite(
    make_data: Make, run_test: Make, oracle: Make, tmp_path: Path
) -> None:
    class Diverged(oracle):
        def test_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
            outputs = super().test_step(batch, batch_idx)
            outputs["probabilities"][(batch.video == 4) & (batch.view == 1)] = torch.nan
            return outputs

    run_test(make_data(), Diverged())
    status = parquet.read_table(tmp_path / "run" / "predictions.parquet")["status"].to_pylist()
    assert status == ["the model's output is not finite" if row == 4 else "ok" for row in range(8)]


def test_refuses_missing_views(digits: Path) -> None:
    table = load_annotations(digits / "val.csv")
    counts = torch.tensor([6, 6, 6, 5, 6, 6, 6])
    videos = VideoPredictions(torch.arange(7), torch.ones(7, 4), torch.zeros(7, dtype=torch.long), counts)
    with pytest.raises(RuntimeError, match=rf"2 of 8 videos lack views, first {table.path(3)}: 5 of 6 \(2 clips x 3"):
        check_views(table, videos, [7], ViewSpec(2, 3))


@pytest.mark.parametrize(
    ("views", "words"), [(ViewSpec(5, 1), "5 clips x 1 crop"), (ViewSpec(1, 3), "1 clip x 3 crops")]
)
def test_views_in_words(views: ViewSpec, words: str) -> None:
    assert describe(views) == words


def test_gallery_is_a_picture(make_data: Make, run_test: Make, oracle: Make, tmp_path: Path) -> None:
    run_test(make_data(), oracle({1: 0, 6: 0}))
    write_gallery(tmp_path / "run" / "predictions.parquet", tmp_path / "gallery.png", num_videos=4, num_frames=5)
    with Image.open(tmp_path / "gallery.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=10**6)}
        assert picture.height > 4 * 128
        assert picture.width > 5 * 128
    assert {(0x1A, 0x7F, 0x37), (0xCF, 0x22, 0x2E)} <= colours


def test_gallery_needs_its_videos(make_data: Make, run_test: Make, broken: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    rows = [line.split(",") for line in broken.read_text().splitlines()[1:3]]
    for i, (path, _) in enumerate(rows):
        (copy / f"{i}.mp4").write_bytes(Path(path).read_bytes())
    (copy / "test.csv").write_text("".join(f"{i}.mp4,{label}\n" for i, (_, label) in enumerate(rows)))
    run_test(make_data(test=str(copy / "test.csv")))
    (copy / "1.mp4").unlink()
    with pytest.raises(VideoDecodeError, match=r"copy/1\.mp4: the video is no longer where the test found it"):
        write_gallery(tmp_path / "run" / "predictions.parquet", tmp_path / "gallery.png")


def test_gallery_needs_a_score(make_data: Make, run_test: Make, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "bad.csv").write_text("bad.mp4,0\n")
    run_test(make_data(test=str(tmp_path / "bad.csv"), on_error="skip"))
    with pytest.raises(MVitVideoError, match="no video of this test has a score"):
        write_gallery(tmp_path / "run" / "predictions.parquet", tmp_path / "gallery.png")
