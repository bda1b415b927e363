"""Videos encoded anew: every frame at its time, readable by decord, with regular key frames."""

import csv
import io
import os
from pathlib import Path

import av
import numpy as np
import pytest
from rich.console import Console

from mvit_video.curation.encoding import EncodeSettings, encode_video
from mvit_video.curation.preparation import name_targets, prepare_videos
from mvit_video.data import VideoTable, load_annotations
from mvit_video.data.readers import open_video
from mvit_video.jobs import Workers
from mvit_video.types import ConfigError, VideoDecodeError
from tests.fixtures.data import Barcodes, OddVideos

WORKERS = Workers(2, 60, Console(quiet=True))
KEPT = (
    "closed_gop", "open_gop", "hevc_ten_bits", "mpeg4_avi", "mpeg_ts", "vp9", "variable_rate", "edit_list_reordered",
    "starts_between_keys", "elementary_stream", "odd_size", "full_range", "with_sound", "one_frame",
    "two_tracks_second",
)  # fmt: skip


def encode(source: Path, target: Path, **settings: int) -> Path:
    encode_video(str(source), target, EncodeSettings(**settings), lambda: None)
    return target


def packets(path: Path) -> list[tuple[int | None, bool]]:
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        return sorted((packet.pts, packet.is_keyframe) for packet in container.demux() if packet.size)


@pytest.mark.parametrize("name", KEPT)
def test_every_frame_is_kept_at_its_time(name: str, odd_videos: OddVideos, barcodes: Barcodes, tmp_path: Path) -> None:
    pytest.importorskip("decord")
    source = odd_videos(name)
    with open_video(source, "pyav") as before, open_video(encode(source, tmp_path / "new.mp4")) as after:
        assert after.num_frames == before.num_frames
        assert (after.height, after.width) == (before.height // 2 * 2, before.width // 2 * 2)
        np.testing.assert_allclose(after.timestamps, before.timestamps, atol=1e-9)
        assert (after.backend, after.codec, after.container) == ("decord", "h264", "mov")
        every = range(before.num_frames)
        old, new = before.get_frames(every), after.get_frames(every)
        assert after.backend == "decord"
        assert barcodes(new) == barcodes(old)
        assert (old.float().mean((0, 1, 2)) - new.float().mean((0, 1, 2))).abs().max() < 3


@pytest.mark.parametrize(("name", "turns"), [("rotated", 1), ("rotated_180", 2), ("rotated_270", 3)])
def test_pictures_come_upright(
    name: str, turns: int, odd_videos: OddVideos, barcodes: Barcodes, tmp_path: Path
) -> None:
    with open_video(odd_videos(name)) as before, open_video(encode(odd_videos(name), tmp_path / "new.mp4")) as after:
        assert (after.height, after.width) == (before.height, before.width)
        old, new = before.get_frames([0, 5, 47]), after.get_frames([0, 5, 47])
        assert (old.float() - new.float()).abs().mean() < 6
        assert barcodes(new.rot90(-turns, (1, 2))) == barcodes(old.rot90(-turns, (1, 2))) == [0, 5, 47]


def test_key_frames_come_at_regular_places(odd_videos: OddVideos, tmp_path: Path) -> None:
    is_key = [is_key for _, is_key in packets(encode(odd_videos("long_gop"), tmp_path / "new.mp4"))]
    assert np.flatnonzero(is_key).tolist() == list(range(0, 200, 32))
    is_key = [is_key for _, is_key in packets(encode(odd_videos("with_sound"), tmp_path / "short.mp4", gop=5))]
    assert np.flatnonzero(is_key).tolist() == list(range(0, 48, 5))


@pytest.mark.parametrize(
    ("name", "short_side", "size"),
    [("closed_gop", 32, (32, 48)), ("rotated", 48, (72, 48)), ("odd_size", 40, (40, 56))],
)
def test_pictures_are_made_smaller_and_never_larger(
    name: str, short_side: int, size: tuple[int, int], odd_videos: OddVideos, tmp_path: Path
) -> None:
    with open_video(encode(odd_videos(name), tmp_path / "new.mp4", short_side=short_side)) as after:
        assert (after.height, after.width) == size


def test_quality_follows_crf(barcode_video: Path, tmp_path: Path) -> None:
    sizes = [encode(barcode_video, tmp_path / f"{crf}.mp4", crf=crf).stat().st_size for crf in (10, 20, 40)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 1.5 * sizes[2]


def test_damaged_videos_leave_nothing_half_written(odd_videos: OddVideos, tmp_path: Path) -> None:
    data = odd_videos("mpeg_ts").read_bytes()
    (tmp_path / "noise.ts").write_bytes(data[:376] + bytes(len(data) - 376))
    with pytest.raises(VideoDecodeError, match=r"noise\.ts"):
        encode(tmp_path / "noise.ts", tmp_path / "new" / "new.mp4")
    assert list((tmp_path / "new").glob("*")) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"short_side": 255}, "--short-side must be an even number of pixels, got 255"),
     ({"gop": 0}, "--gop must be at least 1, got 0"), ({"crf": 52}, "--crf must be from 0 to 51, got 52")],
)  # fmt: skip
def test_impossible_settings_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncodeSettings(**settings)


def test_names_keep_folders_and_stay_apart(tmp_path: Path) -> None:
    inside = ["a/one.mp4", "a/two.avi", "a/two.mkv", "b.c/one.webm", "odd.avi.mp4", "odd.avi"]
    outside = [str(tmp_path / "x" / "one.mp4"), str(tmp_path / "y" / "one.mp4")]
    root = tmp_path / "root"
    targets = name_targets([str(root / name) for name in inside] + outside, root)
    assert list(targets.values())[:6] == [
        "videos/a/one.mp4", "videos/a/two.avi.mp4", "videos/a/two.mkv.mp4", "videos/b.c/one.mp4",
        "videos/odd.avi.mp4.mp4", "videos/odd.mp4",
    ]  # fmt: skip
    assert all(name.startswith("videos/elsewhere/") for name in list(targets.values())[6:])
    assert len(set(targets.values())) == len(targets)


@pytest.fixture
def table(barcode_video: Path, odd_videos: OddVideos, tmp_path: Path) -> VideoTable:
    """Three good videos, one of them with two segments, one that is damaged and one that is missing."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(barcode_video.read_bytes())
    (folder / "c.avi").write_bytes(odd_videos("mpeg4_avi").read_bytes())
    (folder / "cut.mp4").write_bytes(barcode_video.read_bytes()[:1500])
    rows = ["a.mp4,cooking,0,1", "a.mp4,running,1,", "b.mp4,cooking,,", "c.avi,zumba,,", "cut.mp4,running,,",
            "gone.mp4,dancing,,"]  # fmt: skip
    (folder / "list.csv").write_text("\n".join(["path,label,start,end", *rows]))
    return load_annotations(folder / "list.csv")


def test_a_data_set_is_encoded_once(table: VideoTable, tmp_path: Path) -> None:
    out = tmp_path / "new"
    done = prepare_videos(table, out, EncodeSettings(), WORKERS)
    assert [video.is_usable for video in done.videos] == [True, True, True, False, False]
    with done.failures.open() as file:
        assert [(Path(row["path"]).name, row["kind"]) for row in csv.DictReader(file)] == [
            ("gone.mp4", "missing"), ("cut.mp4", "truncated")
        ]  # fmt: skip
    new = load_annotations(done.annotations)
    assert [new.path(row) for row in range(len(new))] == [f"videos/{name}.mp4" for name in "aabc"]
    assert new.class_names == table.class_names
    assert [new.label_of(row) for row in range(4)] == [table.label_of(row) for row in range(4)]
    assert [new.span(row) for row in range(4)] == [table.span(row) for row in range(4)]
    with open_video(new.locate(3)) as reader:
        assert reader.num_frames == 48
    stamps = {path: path.stat().st_mtime_ns for path in (out / "videos").iterdir()}
    assert len(stamps) == 3

    os.utime(table.locate(2))
    (out / "videos" / "c.mp4").unlink()
    shown = io.StringIO()
    prepare_videos(table, out, EncodeSettings(), Workers(2, 60, Console(file=shown)))
    assert shown.getvalue() == "1 new videos are missing or damaged and are encoded again\n"
    changed = {path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert changed == {"b.mp4", "c.mp4"}
    prepare_videos(table, out, EncodeSettings(short_side=32), WORKERS)
    with open_video(new.locate(0)) as reader:
        assert reader.height == 32


def test_sources_are_never_written_to(table: VideoTable, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--out \S+/source is the folder of the sources"):
        prepare_videos(table, table.root, EncodeSettings(), WORKERS)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "videos").symlink_to(table.root)
    with pytest.raises(ConfigError, match=r"would replace the source \S+/source/a\.mp4"):
        prepare_videos(table, tmp_path / "new", EncodeSettings(), WORKERS)


def test_a_folder_of_something_else_is_refused(table: VideoTable, tmp_path: Path) -> None:
    (tmp_path / "new" / "videos").mkdir(parents=True)
    (tmp_path / "new" / "videos" / "a.mp4").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"^--out \S+/new has videos, which prepare did not write; choose a new"):
        prepare_videos(table, tmp_path / "new", EncodeSettings(), WORKERS)
    assert (tmp_path / "new" / "videos" / "a.mp4").read_bytes() == b"mine"


def test_the_longest_names_get_names_that_fit(tmp_path: Path) -> None:
    sources = [str(tmp_path / f"{letter * 252}.ts") for letter in "ab"]
    targets = [os.path.basename(target) for target in name_targets(sources, tmp_path).values()]
    assert [len(target) for target in targets] == [255, 255]
    assert len(set(targets)) == 2
