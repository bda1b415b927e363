"""A run of `pack` on a folder of an earlier run, or of somebody else."""

import os
from pathlib import Path

import fsspec
import pytest

from mvit_video.curation.packing import PackSettings, pack_videos
from mvit_video.data import VideoTable, load_annotations
from mvit_video.types import ConfigError
from tests.fixtures.data import WriteFiles

pytestmark = pytest.mark.usefixtures("own_cache")


def content(number: int) -> bytes:
    """Bytes that stand for a video; lengths around the blocks of a tar."""
    return bytes([number % 251]) * (500 + 7 * number)


def rows(table: VideoTable) -> list[tuple]:
    """What a table says of each video, with its bytes."""
    sources = [table.source(row) for row in range(len(table))]
    videos = [source.read_bytes() if isinstance(source, Path) else source for source in sources]
    return [(table.path(row), table.label_of(row), table.span(row), videos[row]) for row in range(len(table))]


@pytest.mark.parametrize("where", ["local", "url"])
def test_lost_and_damaged_shards_are_packed_again(files: WriteFiles, tmp_path: Path, bucket: str, where: str) -> None:
    table, settings = files(6), PackSettings(max_videos=2, seed=None)
    out = {"local": str(tmp_path / "out"), "url": bucket}[where]
    pack_videos(table, out, settings)
    system, path = fsspec.url_to_fs(out)
    system.pipe_file(f"{path}/shard-000000.tar", system.cat_file(f"{path}/shard-000000.tar")[:1000])
    system.rm_file(f"{path}/shard-000001.tar")
    report = pack_videos(table, out, settings)
    assert (report.num_videos, report.num_earlier, report.num_shards) == (6, 2, 3)
    assert report.damaged == ["shard-000000.tar"]
    assert system.size(f"{path}/damaged/shard-000000.tar") == 1000
    assert sorted(row[0] for row in rows(load_annotations(out))) == sorted(table.paths.to_pylist())
    assert pack_videos(table, out, settings).damaged == []


def test_a_video_that_changed_after_it_was_packed_is_named(files: WriteFiles, tmp_path: Path) -> None:
    table, out = files(3), tmp_path / "out"
    pack_videos(table, str(out))
    shard, source = out / "shard-000000.tar", table.locate(1)
    later = shard.stat().st_mtime_ns + 10**9
    os.utime(source, ns=(later, later))  # copied anew
    assert pack_videos(table, str(out)).num_earlier == 3
    source.write_bytes(bytes(len(content(1))))
    os.utime(source, ns=(later, later))
    with pytest.raises(ConfigError, match=r"1\.MP4 has changed since it was packed into \S+shard-000000\.tar; "):
        pack_videos(table, str(out))
    shard.unlink()
    pack_videos(table, str(out))
    assert [row[3] for row in rows(load_annotations(out))][1] == bytes(len(content(1)))


def test_nothing_of_others_is_removed_or_replaced(files: WriteFiles, tmp_path: Path) -> None:
    out, table = tmp_path / "out", files(3)
    out.mkdir()
    (out / "classes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"out/classes\.txt was not written by pack; give a new or empty folder"):
        pack_videos(table, str(out))
    assert (out / "classes.txt").read_text() == "mine"
    (out / "classes.txt").unlink()
    (out / ".mvit_video_pack_notes").mkdir()
    (out / ".pack.0123abcd.unfinished").mkdir()  # of a run that was killed
    with pytest.raises(ConfigError, match="_notes was not written by pack"):
        pack_videos(table, str(out))
    assert [path.name for path in out.iterdir()] == [".mvit_video_pack_notes"]


def test_what_is_no_file_in_place_of_a_shard_is_moved_and_packed_again(files: WriteFiles, tmp_path: Path) -> None:
    table, out, settings = files(4), tmp_path / "out", PackSettings(max_videos=1)
    pack_videos(table, str(out), settings)
    expected = rows(load_annotations(out))
    shards = sorted(out.glob("*.tar"))
    for shard in shards[:3]:
        shard.unlink()
    shards[0].mkdir()
    os.mkfifo(shards[1])
    shards[2].symlink_to(tmp_path / "nothing")
    report = pack_videos(table, str(out), settings)
    assert (report.num_earlier, report.damaged) == (1, [shard.name for shard in shards[:3]])
    assert rows(load_annotations(out)) == expected


@pytest.mark.parametrize("text", ["", "[1]", "[" * 100_000])
def test_damaged_settings_are_named(files: WriteFiles, tmp_path: Path, text: str) -> None:
    table, out = files(1), tmp_path / "out"
    pack_videos(table, str(out))
    (out / "pack.json").write_text(text)
    with pytest.raises(ConfigError, match=r"out: its pack\.json cannot be read; give a new folder, or remove"):
        pack_videos(table, str(out))
