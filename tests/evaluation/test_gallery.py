"""The picture of a test."""

from pathlib import Path

import pytest
from PIL import Image

from mvit_video.evaluation import write_gallery
from mvit_video.types import MVitVideoError, VideoDecodeError
from tests.fixtures.evaluation import MakeData, MakeOracle, RunTest

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
]


def test_gallery_is_a_picture(make_data: MakeData, run_test: RunTest, oracle: MakeOracle, tmp_path: Path) -> None:
    run_test(make_data(), oracle({1: 0, 6: 0}))
    write_gallery(tmp_path / "run" / "predictions.parquet", tmp_path / "gallery.png", num_videos=4, num_frames=5)
    with Image.open(tmp_path / "gallery.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=10**6)}
        assert picture.height > 4 * 128
        assert picture.width > 5 * 128
    assert {(0x1A, 0x7F, 0x37), (0xCF, 0x22, 0x2E)} <= colours


def test_gallery_needs_its_videos(make_data: MakeData, run_test: RunTest, broken: Path, tmp_path: Path) -> None:
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


def test_gallery_needs_a_score(make_data: MakeData, run_test: RunTest, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "bad.csv").write_text("bad.mp4,0\n")
    run_test(make_data(test=str(tmp_path / "bad.csv"), on_error="skip"))
    with pytest.raises(MVitVideoError, match="no video of this test has a score"):
        write_gallery(tmp_path / "run" / "predictions.parquet", tmp_path / "gallery.png")
