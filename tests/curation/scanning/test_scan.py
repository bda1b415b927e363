"""A scan names what is wrong with every video, keeps what it has found, and leaves what training can read."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console

from mvit_video.cli import main
from mvit_video.curation.scanning import (
    ScanSettings,
    scan_videos,
    scanner,
    summarise,
    write_failures,
    write_manifest,
)
from mvit_video.curation.scanning.checks import decode_all, inspect, missing_bytes
from mvit_video.data import VideoTable, find_videos, load_annotations
from mvit_video.data.readers import open_video
from mvit_video.jobs import Ledger, Workers, WorkFailure
from mvit_video.types import ConfigError
from tests.fixtures.data import OddVideos

WORKERS = Workers(2, 60, Console(quiet=True))


def flip(data: bytes, *offsets: int) -> bytes:
    changed = bytearray(data)
    for offset in offsets:
        changed[offset] ^= 0x55
    return bytes(changed)


@pytest.fixture(scope="module")
def folder(odd_videos: OddVideos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos with everything that can be wrong, in folders without a meaning."""
    folder = tmp_path_factory.mktemp("videos")
    good, first = odd_videos("closed_gop").read_bytes(), odd_videos("index_first").read_bytes()
    avi = odd_videos("mpeg4_avi_no_b").read_bytes()
    at = first.index(b"mdat")
    files = {
        "good.mp4": good,
        "deep/er/copy.mp4": good,
        "hevc.mp4": odd_videos("hevc").read_bytes(),
        "empty.mp4": b"",
        "text.mp4": b"no video " * 100,
        "cut.mp4": good[: len(good) // 2],
        "cut_index_first.mp4": first[: len(first) * 2 // 3],
        "cut.mkv": odd_videos("matroska").read_bytes()[:4000],
        "cut.avi": avi[: len(avi) * 2 // 3],
        "codec.avi": avi.replace(b"FMP4", b"ZZZZ"),
        "header.avi": odd_videos("header_counts_more").read_bytes(),
        "one.mp4": odd_videos("one_frame").read_bytes(),
        "concealed.mp4": first[: at + 2000] + bytes(600) + first[at + 2600 :],
        "broken.mp4": first[: at + 2500] + bytes(500) + first[at + 3000 :],
        "a\nnewline.mp4": odd_videos("vp9").read_bytes(),
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "folder.mp4").mkdir()
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux([*stream.encode(sound), *stream.encode()])
    return folder


EXPECTED = {
    "broken.mp4": ("failed", "damaged", "the data of frame 47 or of an earlier one are damaged"),
    "concealed.mp4": ("ok", "damaged", "frames decode, but with errors that the decoder conceals"),
    "codec.avi": ("failed", "unsupported codec", "no decoder for its codec"),
    "cut.avi": ("failed", "truncated", "bytes are missing"),
    "cut.mkv": ("failed", "truncated", "bytes are missing"),
    "cut.mp4": ("failed", "truncated", "bytes are missing"),
    "cut_index_first.mp4": ("failed", "truncated", "48 frames"),
    "empty.mp4": ("failed", "empty", "is an empty file"),
    "header.avi": ("ok", "wrong header", "its header states 4800 frames, there are 48"),
    "one.mp4": ("failed", "too short", "lasts 0.03 s, --min-seconds is 0.5"),
    "sound.mp4": ("failed", "no video stream", "no video stream"),
    "text.mp4": ("failed", "other", "cannot be decoded"),
}


def rows_of(manifest: pa.Table) -> dict[str, dict]:
    return {row["path"]: row for row in manifest.to_pylist()}


@pytest.fixture(scope="module")
def scanned(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table]:
    out = tmp_path_factory.mktemp("scan")
    table = find_videos(str(folder), labels="optional")
    manifest = scan_videos(table, out, ScanSettings(), WORKERS)
    write_manifest(manifest, out / "manifest.parquet")
    write_failures(manifest, out / "failures.csv")
    return out, manifest


def test_every_kind_of_trouble_is_told(scanned: tuple[Path, pa.Table]) -> None:
    out, manifest = scanned
    found = rows_of(manifest)
    assert found.keys() == EXPECTED.keys() | {"good.mp4", "deep/er/copy.mp4", "hevc.mp4", "a\nnewline.mp4"}
    wrong = {path: row for path, row in found.items() if row["kind"] is not None}
    assert {path: (row["status"], row["kind"]) for path, row in wrong.items()} == {
        path: (status, kind) for path, (status, kind, _) in EXPECTED.items()
    }
    for path, (_, _, reason) in EXPECTED.items():
        assert reason in found[path]["reason"], found[path]["reason"]
    with (out / "failures.csv").open(newline="") as file:
        listed = {row["path"]: (row["kind"], row["reason"]) for row in csv.DictReader(file)}
    assert listed == {path: (row["kind"], row["reason"]) for path, row in wrong.items()}


def test_the_manifest_describes_every_usable_video(folder: Path, scanned: tuple[Path, pa.Table]) -> None:
    out, manifest = scanned
    for path, row in rows_of(manifest).items():
        assert row["size"] == (folder / path).stat().st_size
        assert row["mtime_ns"] == (folder / path).stat().st_mtime_ns
        if row["status"] != "ok":
            continue
        with open_video(folder / path) as reader:
            for name in ("num_frames", "fps", "duration_seconds", "height", "width", "codec", "container", "backend"):
                assert row[name] == getattr(reader, name), (path, name)
            assert row["backend_reason"] == reader.backend_reason
    assert rows_of(manifest)["hevc.mp4"]["backend"] == "pyav"
    hashed = {row["path"]: row["sha256"] for row in manifest.to_pylist() if row["sha256"] is not None}
    assert hashed["good.mp4"] == hashed["deep/er/copy.mp4"] == sha256((folder / "good.mp4").read_bytes()).hexdigest()
    assert not hashed.keys() & {"hevc.mp4", "text.mp4", "one.mp4"}  # no other file has their size
    (duplicates,) = summarise(manifest, None).duplicates
    assert duplicates.paths == ["good.mp4", "deep/er/copy.mp4"]
    table = load_annotations(out / "manifest.parquet")
    assert [table.locate(row).name for row in range(len(table))] == [
        "a\nnewline.mp4", "concealed.mp4", "good.mp4", "header.avi", "hevc.mp4", "copy.mp4"
    ]  # fmt: skip
    assert table.index_cache == out / "index"
    assert list((out / "index").iterdir())


def test_a_second_scan_does_the_rest_only(
    folder: Path, scanned: tuple[Path, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, manifest = scanned
    done: list[list[str]] = []

    def run_job(text: str, work: object, items: list[str], *_: object) -> None:
        done.append([os.path.basename(item) for item in items])

    table = find_videos(str(folder), labels="optional")
    with monkeypatch.context() as patched:
        patched.setattr(scanner, "run_job", run_job)
        again = scan_videos(table, out, ScanSettings(), WORKERS)
        assert done == [["text.mp4"], []]  # what may be the machine's fault is tried again
        assert again.equals(manifest)
        os.utime(folder / "one.mp4")
        scan_videos(table, out, ScanSettings(min_seconds=0.01), WORKERS)
        assert done[2:] == [["one.mp4", "text.mp4"], []]
        scan_videos(table, out, ScanSettings(is_full=True), WORKERS)
        assert len(done[4]) == len(table)
    settings = ScanSettings(min_seconds=0.01)
    assert rows_of(scan_videos(table, out, settings, WORKERS))["one.mp4"]["status"] == "ok"


def test_a_comparison_that_failed_is_told_of_and_tried_again(
    odd_videos: OddVideos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one.mp4", "same.mp4"):
        (tmp_path / name).write_bytes(odd_videos("index_first").read_bytes())
    table = find_videos(str(tmp_path), labels="optional")
    said = StringIO()
    workers = Workers(2, 60, Console(file=said))

    def run_job(text: str, work: Any, items: list[str], row_of: Any, ledger: Ledger, _: Workers) -> None:
        for item in items:
            is_hash = text.startswith("comparing")
            ledger.add(row_of(item, WorkFailure("time-out", "silent") if is_hash else work(item, lambda: None)))
        ledger.flush()

    with monkeypatch.context() as patched:
        patched.setattr(scanner, "run_job", run_job)
        assert set(scan_videos(table, tmp_path / "out", ScanSettings(), workers)["sha256"].to_pylist()) == {None}
    assert "2 files of equal size could not be compared" in said.getvalue()
    digests = scan_videos(table, tmp_path / "out", ScanSettings(), WORKERS)["sha256"].to_pylist()
    assert digests == 2 * [sha256((tmp_path / "one.mp4").read_bytes()).hexdigest()]


def test_a_full_scan_finds_damage_between_the_frames_that_a_quick_one_decodes(
    odd_videos: OddVideos, tmp_path: Path
) -> None:
    data = odd_videos("index_first").read_bytes()
    (tmp_path / "damaged.mp4").write_bytes(flip(data, *range(len(data) - 900, len(data) - 700, 40)))
    (tmp_path / "good.mp4").write_bytes(data)
    table = find_videos(str(tmp_path), labels="optional")
    found = rows_of(scan_videos(table, tmp_path / "out", ScanSettings(is_full=True), WORKERS))
    assert found["damaged.mp4"]["kind"] == "damaged"
    assert (found["good.mp4"]["kind"], found["good.mp4"]["damaged"]) == (None, False)
    assert all(row["sha256"] for row in found.values())


@pytest.mark.parametrize("is_full", [False, True])
def test_no_good_video_is_found_wrong(odd_name: str, odd_videos: OddVideos, is_full: bool) -> None:
    path = odd_videos(odd_name)
    check, header = inspect(str(path))
    assert (check.kind, header is None) == (None, False)
    assert missing_bytes(path) == 0
    if is_full:
        with open_video(path, "pyav") as reader:
            assert decode_all(str(path), lambda: None) == (reader.num_frames, False)


@pytest.mark.parametrize(("name", "share"), [("closed_gop", 0.9), ("matroska", 0.5), ("mpeg4_avi", 0.7), ("vp9", 0.99)])
def test_missing_bytes_are_counted(name: str, share: float, odd_videos: OddVideos, tmp_path: Path) -> None:
    data = odd_videos(name).read_bytes()
    kept = int(len(data) * share)
    (tmp_path / "cut").write_bytes(data[:kept])
    lacking = missing_bytes(tmp_path / "cut")
    assert 0 < lacking <= len(data) - kept + 8
    (tmp_path / "more").write_bytes(data + b"\0\0\0\0")
    assert missing_bytes(tmp_path / "more") == 0


def test_labels_names_and_segments_come_through(barcode_video: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(
        f"path,label,start,end\n{barcode_video},walk,0,1\n{barcode_video},run,1.3,9\n{barcode_video},run,2,3\n"
        "gone.mp4,sit,,\n"
    )
    table = load_annotations(tmp_path / "list.csv")
    manifest = scan_videos(table, tmp_path / "out", ScanSettings(), WORKERS)
    assert manifest["status"].to_pylist() == ["ok", "failed", "failed", "failed"]
    assert manifest["reason"].to_pylist() == [
        "", "lasts 1.60 s, its segment from 1.3 s lasts 0.30 s, --min-seconds is 0.5",
        "lasts 1.60 s, its segment from 2 s lasts 0.00 s, --min-seconds is 0.5", "no such file",
    ]  # fmt: skip
    write_manifest(manifest, tmp_path / "out" / "manifest.parquet")
    again = load_annotations(tmp_path / "out" / "manifest.parquet")
    assert again.class_names == ("run", "sit", "walk")
    assert (len(again), again.label_of(0), again.span(0), again.locate(0)) == (1, 2, (0.0, 1.0), barcode_video)


def test_several_labels_come_through(barcode_video: Path, tmp_path: Path) -> None:
    lines = [{"path": str(barcode_video), "labels": labels} for labels in ([0, 2], [])]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    manifest = scan_videos(load_annotations(tmp_path / "list.jsonl"), tmp_path / "out", ScanSettings(), WORKERS)
    assert manifest["label"].to_pylist() == [[0, 2], []]
    assert summarise(manifest, None).classes == [("0", 1), ("2", 1), ("1", 0)]
    write_manifest(manifest, tmp_path / "out" / "manifest.parquet")
    assert load_annotations(tmp_path / "out" / "manifest.parquet").label_of(0) == [0, 2]


@pytest.mark.parametrize("place", ["", "cooking", "cooking/more"])
def test_a_folder_that_cannot_be_listed_is_told_in_one_line(
    place: str, barcode_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "videos"
    (videos / "cooking" / "more").mkdir(parents=True)
    (videos / "shown.mp4").write_bytes(barcode_video.read_bytes())
    forbid_listing(str(videos / place), monkeypatch)
    assert main(["scan", str(videos), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == (
        f"error: {videos / place}: the folder cannot be listed (Permission denied); make it readable, or give other "
        "folders\n"
    )


def forbid_listing(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `chmod 000` does, for the superuser too."""

    def forbidding(list_folder: Callable[..., Any]) -> Callable[..., Any]:
        def listed(path: Any = ".") -> Any:
            if os.path.abspath(path) == folder:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
            return list_folder(path)

        return listed

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, forbidding(getattr(os, name)))


def test_videos_in_shards_are_refused(barcode_video: Path, tmp_path: Path) -> None:
    class Archive:
        def read(self, row: int) -> bytes:
            raise NotImplementedError

    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").symlink_to(barcode_video)
    table = find_videos(str(tmp_path / "videos"), labels="optional")
    shards = VideoTable(table.paths, table.labels, None, table.root, archive=Archive())
    with pytest.raises(ConfigError, match=r"scan them before `mvit-video pack`"):
        scan_videos(shards, tmp_path / "out", ScanSettings(), WORKERS)


@pytest.mark.slow
def test_a_scan_that_is_killed_goes_on(barcode_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    for i in range(100):
        (videos / f"{i:03d}.mp4").write_bytes(barcode_video.read_bytes())
    code = (
        "import pathlib, sys, time; from mvit_video.cli import main; from mvit_video.jobs import folder\n"
        "folder._ROWS_PER_PART, flush = 5, folder.Ledger.flush\n"
        "def wait_at_three(self):\n    flush(self)\n"
        "    if len(list(pathlib.Path(sys.argv[3], 'checked').glob('*.parquet'))) >= 3: time.sleep(600)\n"
        "folder.Ledger.flush = wait_at_three\n"
        "main(['scan', *sys.argv[1:]])"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(videos), "--out", str(out), "--workers", "2"]) as job:
        while job.poll() is None and len(list((out / "checked").glob("*.parquet"))) < 3:
            time.sleep(0.01)
        job.send_signal(signal.SIGKILL)
    kept = sum(parquet.read_metadata(part).num_rows for part in (out / "checked").glob("*.parquet"))
    assert 10 <= kept < 100
    assert not (out / "manifest.parquet").exists()
    asked: list[int] = []
    run_job = scanner.run_job
    monkeypatch.setattr(scanner, "run_job", lambda *args: (asked.append(len(args[2])), run_job(*args)))
    table = find_videos(str(videos), labels="optional")
    manifest = scan_videos(table, out, ScanSettings(), WORKERS)
    assert asked[0] == 100 - kept
    assert set(manifest["status"].to_pylist()) == {"ok"}
    (group,) = summarise(manifest, None).duplicates
    assert len(group.paths) == 100
