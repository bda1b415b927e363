import os
import pickle
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from mvit_video.data.readers import IndexCache, open_video, reader
from mvit_video.data.readers.index_cache import from_row, list_parts, to_row, write_part
from mvit_video.data.readers.packet_index import PacketIndex
from mvit_video.data.readers.source import Source
from mvit_video.data.readers.stream import OpenStream
from mvit_video.types import ConfigError, VideoDecodeError
from tests.fixtures.data import Barcodes, OddVideos

INDEX = PacketIndex(
    num_frames=300,
    fps=30.0,
    duration_seconds=10.0,
    height=256,
    width=340,
    rotation=0,
    time_base=Fraction(1, 15360),
    pts=np.arange(300) * 512,
    key_pts=np.array([0, 250 * 512]),
    is_damaged=False,
    codec="h264",
    container="mov",
    decord_refusal=None,
    torchcodec_refusal=None,
)


def scan(path: Path) -> PacketIndex:
    with OpenStream(Source(str(path))) as opened:
        return reader.scan_packets(opened)


def assert_same(a: PacketIndex, b: PacketIndex) -> None:
    for field in fields(PacketIndex):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)


@pytest.fixture
def no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a file that has to be scanned is an error."""

    def refuse(opened: OpenStream) -> PacketIndex:
        raise AssertionError(f"{opened.source.name} was scanned")

    monkeypatch.setattr(reader, "scan_packets", refuse)


@pytest.mark.parametrize(
    "name", ["closed_gop", "matroska", "variable_rate", "open_gop", "mpeg4_avi", "edit_list", "one_frame", "rotated"]
)
def test_what_was_kept_comes_back(name: str, tmp_path: Path, odd_videos: OddVideos) -> None:
    path = odd_videos(name)
    cache, status, index = IndexCache(tmp_path), path.stat(), scan(path)
    assert cache.get(str(path), status) is None
    cache.put(str(path), status, index)
    cache.flush()
    for again in (cache, IndexCache(tmp_path), pickle.loads(pickle.dumps(cache))):
        found = again.get(str(path), status)
        assert found is not None
        assert_same(found, index)


@given(
    steps=st.lists(st.integers(1, 2**40), max_size=30),
    first=st.integers(-(2**40), 2**40),
    keys=st.sets(st.integers(0, 30)),
    fps=st.floats(0.1, 1000),
)
def test_any_rising_stamps_come_back(steps: list[int], first: int, keys: set[int], fps: float) -> None:
    pts = first + np.cumsum([0, *steps])
    index = replace(
        INDEX, pts=pts, num_frames=len(pts), fps=fps, key_pts=pts[[k for k in sorted(keys) if k < len(pts)]]
    )
    assert_same(from_row(to_row(index)), index)


@given(rate=st.sampled_from([24000 / 1001, 25.0, 30000 / 1001, 30.0, 59.94]), num_frames=st.integers(1, 2000))
def test_a_regular_video_takes_a_small_row(rate: float, num_frames: int) -> None:
    """Ticks of 1/15360 s as in MP4, and milliseconds as in Matroska, where the step is rounded."""
    for time_base in (Fraction(1, 15360), Fraction(1, 1000)):
        pts = np.rint(np.arange(num_frames) / (rate * float(time_base))).astype(np.int64)
        row = to_row(replace(INDEX, pts=pts, key_pts=pts[::12], num_frames=num_frames, fps=rate, time_base=time_base))
        assert sum(len(value) for value in row if isinstance(value, bytes)) <= 2 * num_frames / 12
        np.testing.assert_array_equal(from_row(row).pts, pts)


def test_the_second_opening_does_not_scan(
    tmp_path: Path, barcode_video: Path, barcodes: Barcodes, request: pytest.FixtureRequest
) -> None:
    cache = IndexCache(tmp_path)
    with open_video(barcode_video, index_cache=cache) as video:
        times = video.timestamps.tolist()
    request.getfixturevalue("no_scan")
    for backend in ("decord", "pyav"):
        with open_video(barcode_video, backend, index_cache=cache) as video:
            assert video.timestamps.tolist() == times
            assert barcodes(video.get_frames([40, 3])) == [40, 3]
            assert not video.damaged


def test_a_file_that_changed_is_scanned_again(tmp_path: Path, odd_videos: OddVideos) -> None:
    path, cache = tmp_path / "video.mp4", IndexCache(tmp_path / "index")
    path.write_bytes(odd_videos("closed_gop").read_bytes())
    with open_video(path, index_cache=cache) as video:
        assert video.num_frames == 48
    path.write_bytes(odd_videos("one_frame").read_bytes())
    with open_video(path, index_cache=cache) as video:
        assert video.num_frames == 1
    times = path.stat()
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert cache.get(str(path), path.stat()) is None
    path.unlink()
    with pytest.raises(VideoDecodeError, match="no such file"):
        open_video(path, index_cache=cache)


@pytest.mark.parametrize("damage", ["torn", "flipped", "emptied", "other columns", "not ours"])
def test_a_damaged_part_is_made_anew(damage: str, tmp_path: Path, barcode_video: Path) -> None:
    status, index = barcode_video.stat(), scan(barcode_video)
    writer = IndexCache(tmp_path)
    writer.put(str(barcode_video), status, index)
    writer.flush()
    (part,) = tmp_path.glob("*.arrow")
    data = bytearray(part.read_bytes())
    if damage == "torn":
        part.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        part.write_bytes(bytes(255 - byte for byte in data))
    elif damage == "emptied":
        part.write_bytes(b"")
    elif damage == "other columns":
        part.write_bytes(data.replace(b"num_frames", b"num_flames"))
    else:
        part.rename(tmp_path / "notes.arrow")
    cache = IndexCache(tmp_path)
    assert cache.get(str(barcode_video), status) is None
    with open_video(barcode_video, index_cache=cache) as video:
        assert video.num_frames == 48
    cache.flush()
    assert IndexCache(tmp_path).get(str(barcode_video), status) is not None
    assert (tmp_path / "notes.arrow").exists() == (damage == "not ours")


def test_a_flipped_byte_never_gives_another_index(tmp_path: Path, barcode_video: Path) -> None:
    status, index = barcode_video.stat(), scan(barcode_video)
    writer = IndexCache(tmp_path)
    writer.put(str(barcode_video), status, index)
    writer.flush()
    (part,) = tmp_path.glob("*.arrow")
    data, rng, kept = part.read_bytes(), np.random.default_rng(0), 0
    for place in rng.integers(0, len(data), 300):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        part.unlink(missing_ok=True)
        part.write_bytes(flipped)
        found = IndexCache(tmp_path).get(str(barcode_video), status)
        if found is not None:
            kept += 1
            assert_same(found, index)
    assert 0 < kept < 300


class _Opened(Dataset[int]):
    def __init__(self, paths: list[Path], cache: IndexCache) -> None:
        self.paths, self.cache = paths, cache

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> int:
        with open_video(self.paths[i], "pyav", index_cache=self.cache) as video:
            return len(video.get_frames([0]))


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_leave_what_they_found(start: str, tmp_path: Path, barcode_video: Path) -> None:
    paths = [tmp_path / f"{i}.mp4" for i in range(6)]
    for path in paths:
        path.symlink_to(barcode_video)
    cache = IndexCache(tmp_path / "index")
    cache.put("of the parent", barcode_video.stat(), INDEX)
    loader = DataLoader(_Opened(paths, cache), batch_size=1, num_workers=2, multiprocessing_context=start)
    assert sum(int(batch) for batch in loader) == 6
    del loader
    known = IndexCache(tmp_path / "index")
    assert [known.get(str(path), path.stat()) is not None for path in paths] == [True] * 6
    assert known.get("of the parent", barcode_video.stat()) is None
    cache.flush()
    assert IndexCache(tmp_path / "index").get("of the parent", barcode_video.stat()) is not None


def test_many_rows_are_found_and_small_parts_are_merged(tmp_path: Path, barcode_video: Path) -> None:
    status = barcode_video.stat()
    for process in range(12):
        cache = IndexCache(tmp_path)
        for i in range(200):
            cache.put(f"/video/{process}/{i}.mp4", status, replace(INDEX, num_frames=1 + i))
        cache.put("/video/of/all.mp4", status, INDEX)
        cache.flush()
    cache = IndexCache(tmp_path)
    assert len(list(tmp_path.iterdir())) <= 8
    for process in range(12):
        for i in range(0, 200, 23):
            found = cache.get(f"/video/{process}/{i}.mp4", status)
            assert found is not None
            assert found.num_frames == 1 + i
    assert cache.get("/video/12/0.mp4", status) is None
    rows = sum(part.batch.num_rows for part in list_parts(tmp_path, {}, None).values())
    assert 12 * 200 + 1 <= rows <= 12 * 200 + 8  # one row of the shared file for each part


def test_rows_are_written_in_lots_and_a_long_part_is_closed(tmp_path: Path, barcode_video: Path) -> None:
    status, cache = barcode_video.stat(), IndexCache(tmp_path)
    for i in range(4096 + 64):
        cache.put(f"{i}.mp4", status, INDEX)
    counts = [part.batch.num_rows for part in list_parts(tmp_path, {}, None).values()]
    assert sorted(counts) == [64, 4096]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 400 * 4160


def test_equal_halves_of_keys_are_told_apart(tmp_path: Path) -> None:
    rows = {(7, rest): to_row(replace(INDEX, num_frames=rest)) for rest in (1, 2, 3)}
    name = write_part(tmp_path, rows)
    part = list_parts(tmp_path, {}, None)[name]
    assert [part.find((7, rest))[0] for rest in (1, 2, 3)] == [1, 2, 3]  # type: ignore[index]
    assert part.find((7, 4)) is None
    assert part.find((8, 1)) is None


def test_a_folder_that_cannot_be_written_still_serves(
    tmp_path: Path, barcode_video: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from mvit_video.data.readers import index_cache

    def refuse(*_: object) -> str:
        raise PermissionError("read-only")

    monkeypatch.setattr(index_cache, "write_part", refuse)
    cache = IndexCache(tmp_path)
    with open_video(barcode_video, index_cache=cache):
        pass
    cache.flush()
    assert list(tmp_path.iterdir()) == []
    request.getfixturevalue("no_scan")
    with open_video(barcode_video, index_cache=cache) as video:
        assert video.num_frames == 48


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "index").touch()
    with pytest.raises(ConfigError, match=r"index cache .*index cannot be created .*File exists"):
        IndexCache(tmp_path / "index")
