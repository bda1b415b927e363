"""Damaged files of an earlier scan are moved away, and their videos checked again."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from mvit_video.curation.scanning import ScanSettings, scan_videos
from mvit_video.data import find_videos
from mvit_video.jobs import Workers


def test_damaged_files_of_an_earlier_scan_are_moved_and_named(barcode_video: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "one.mp4").write_bytes(barcode_video.read_bytes())
    torn = tmp_path / "out" / "checked" / f"part-{1:020d}-1.parquet"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"PAR1")
    shown = StringIO()
    table = find_videos(str(tmp_path / "videos"), labels="optional")
    manifest = scan_videos(table, tmp_path / "out", ScanSettings(), Workers(1, 60, Console(file=shown)))
    assert manifest["status"].to_pylist() == ["ok"]
    moved = tmp_path / "out" / "damaged" / "checked" / torn.name
    assert moved.read_bytes() == b"PAR1"
    assert shown.getvalue() == f"damaged files were moved, the first to {moved}; their videos are checked again\n"
