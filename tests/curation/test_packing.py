import io
import json
import multiprocessing
import os
import pickle
import resource
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
import webdataset
from pyarrow import parquet

from mvit_video.curation.packing import PackSettings, pack_videos
from mvit_video.data import VideoTable, load_annotations
from mvit_video.data.shards import TarArchive
from mvit_video.types import AnnotationError, ConfigError, VideoDecodeError
from tests.fixtures.data import WriteFiles

pytestmark = pytest.mark.usefixtures("own_cache")

NAMES = ("hop", "run", "sit")


def content(number: int) -> bytes:
    """Bytes that stand for a video; lengths around the blocks of a tar."""
    return bytes([number % 251]) * (500 + 7 * number)


def rows(table: VideoTable) -> list[tuple]:
    """What a table says of each video, with its bytes."""
    sources = [table.source(row) for row in range(len(table))]
    videos = [source.read_bytes() if isinstance(source, Path) else source for source in sources]
    return [(table.path(row), table.label_of(row), table.span(row), videos[row]) for row in range(len(table))]


@pytest.mark.parametrize("where", ["local", "url", "file_url"])
@pytest.mark.parametrize("seed", [None, 0, 3])
def test_what_is_packed_comes_back(
    files: WriteFiles, tmp_path: Path, bucket: str, where: str, seed: int | None
) -> None:
    table = files()
    out = {"local": str(tmp_path / "out"), "url": bucket, "file_url": f"file://{tmp_path}/out"}[where]
    report = pack_videos(table, out, PackSettings(max_videos=3, seed=seed))
    assert report[:3] == (8, 0, 3)
    assert report.failures == []
    loaded = load_annotations(out)
    assert rows(loaded) == rows(table)
    assert loaded.class_names == NAMES
    assert sorted(path for path, *_ in rows(load_annotations(f"{out}/shard-00000{{0..1}}.tar"))) == sorted(
        path for path, *_ in rows(loaded) if any(path in text for text in json_texts(out)[:6])
    )


def json_texts(out: str) -> list[str]:
    """The JSON members of all shards, in their order."""
    texts: list[str] = []
    for shard in sorted(fsspec.open_files(f"{out}/*.tar"), key=lambda shard: shard.path):
        with shard as file, tarfile.open(fileobj=file) as tar:
            members = [tar.extractfile(member) for member in tar if member.name.endswith(".json")]
            texts += [member.read().decode() for member in members if member is not None]
    return texts


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves files open
def test_webdataset_reads_what_is_packed(files: WriteFiles, tmp_path: Path) -> None:
    table = files()
    pack_videos(table, str(tmp_path / "out"), PackSettings(max_videos=3))
    urls = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert sorted(sample["__key__"] for sample in samples) == [f"{row:09d}" for row in range(8)]
    assert [sample["__key__"] for sample in samples] != sorted(sample["__key__"] for sample in samples)
    for sample in samples:
        row = int(sample["__key__"])
        assert sample["mp4"] == content(row)
        assert sample["cls"] == b"%d" % (row % 3)
        label = {"label": row % 3, "class_name": NAMES[row % 3]}
        assert json.loads(sample["json"]) == {"path": f"a b.{row}/é.1.MP4", **label}


def test_packing_twice_gives_the_same_bytes(files: WriteFiles, tmp_path: Path) -> None:
    for name in ("one", "two"):
        pack_videos(files(folder=f"videos_{name}"), str(tmp_path / name), PackSettings(max_videos=3))
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [
        "classes.txt",
        "failures.csv",
        "index.parquet",
        "pack.json",
        *(f"shard-00000{i}.tar" for i in range(3)),
    ]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_shards_keep_to_their_limits(files: WriteFiles, tmp_path: Path) -> None:
    table = files(12)
    (table.root / "a b.5" / "é.1.MP4").write_bytes(bytes(30_000))
    pack_videos(table, str(tmp_path / "out"), PackSettings(shard_bytes=12_000, seed=None))
    loaded = load_annotations(tmp_path / "out")
    archive = loaded.archive
    assert isinstance(archive, TarArchive)
    sizes, counts = [shard.size for shard in archive.shards], np.bincount(archive.shard_of)
    assert counts.tolist() == [3, 2, 1, 3, 3]
    assert [size > 12_000 for size in sizes] == [False, False, True, False, False]
    assert sizes[0] > 12_000 - (3 * 512 + 3 * 512)  # another sample would not go in
    assert rows(loaded) == rows(table)
    order = [json.loads(text)["path"] for text in json_texts(str(tmp_path / "out"))]
    assert order == [table.path(row) for row in range(12)]


def test_parts_of_a_video_share_its_bytes(files: WriteFiles, tmp_path: Path) -> None:
    table = files(3)
    spans = np.array([[0.0, 1.5], [np.nan, np.nan], [2.0, np.inf], [1.0, 2.0]])
    paths = pa.array([table.path(row) for row in (1, 0, 1, 1)])
    parts = VideoTable(paths, np.array([2, 0, 1, -1]), NAMES, table.root, spans=spans)
    report = pack_videos(parts, str(tmp_path / "out"))
    assert report.num_videos == 2
    loaded = load_annotations(tmp_path / "out")
    assert rows(loaded) == rows(parts)
    assert len(set(loaded.archive.offsets.tolist())) == 2  # type: ignore[union-attr]
    (tmp_path / "out" / "index.parquet").unlink()
    from_headers = sorted(row[1:] for row in rows(load_annotations(tmp_path / "out")))
    assert from_headers == sorted(row[1:] for row in rows(parts))


@pytest.mark.parametrize("names", [NAMES, None])
def test_several_labels_per_video(files: WriteFiles, tmp_path: Path, names: tuple[str, ...] | None) -> None:
    labels = pa.array([[0, 2], [], [1]], pa.list_(pa.int64()))
    table = files(3, multi_labels=labels, labels=np.full(3, -1), class_names=names)
    pack_videos(table, str(tmp_path / "out"), PackSettings(max_videos=1, seed=None))
    for is_indexed in (True, False):
        loaded = load_annotations(tmp_path / "out")
        assert [loaded.label_of(row) for row in range(3)] == [[0, 2], [], [1]]
        assert loaded.labels.tolist() == [-1] * 3
        assert (loaded.num_classes, loaded.class_names) == (3, names)
        if is_indexed:
            (tmp_path / "out" / "index.parquet").unlink()
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        assert tar.getnames() == ["000000000.json", "000000000.mp4"]


def test_failures_are_listed_and_tried_again(
    files: WriteFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = files(6), tmp_path / "out"
    for row, spoil in enumerate(
        [Path.unlink, lambda path: path.write_bytes(b""), lambda path: (path.unlink(), path.mkdir())]
    ):
        spoil(table.locate(row))
    report = pack_videos(table, str(out), PackSettings(seed=None))
    assert report.num_videos == 3
    assert (out / "failures.csv").read_text().splitlines() == [
        "path,kind,reason",
        "a b.0/é.1.MP4,missing,no such file",
        "a b.1/é.1.MP4,empty,is an empty file",
        "a b.2/é.1.MP4,unreadable,is not a file",
    ]
    assert rows(load_annotations(out)) == [(table.path(row), row % 3, None, content(row)) for row in (3, 4, 5)]
    table.locate(0).write_bytes(content(0))
    table.locate(1).write_bytes(content(1))
    report = pack_videos(table, str(out), PackSettings(seed=None))
    assert (report.num_videos, report.num_earlier, report.num_shards) == (5, 3, 2)
    assert [failure.path for failure in report.failures] == ["a b.2/é.1.MP4"]
    assert [row[0] for row in rows(load_annotations(out))] == [table.path(row) for row in (0, 1, 3, 4, 5)]


def test_a_video_that_breaks_off_leaves_no_trace(
    files: WriteFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shrinking(io.BytesIO):
        """Ends before it said it would."""

        def __init__(self) -> None:
            super().__init__(bytes(100))

    table = files(3)
    monkeypatch.setattr(
        "mvit_video.curation.packing.open_source",
        lambda source: (Shrinking(), 900) if source == table.locate(1) else (source.open("rb"), source.stat().st_size),
    )
    report = pack_videos(table, str(tmp_path / "out"), PackSettings(seed=None))
    assert report.failures == [("a b.1/é.1.MP4", "unreadable", "ends after 100 of 900 bytes")]
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        assert [name for name in tar.getnames() if name.endswith("mp4")] == ["000000000.mp4", "000000002.mp4"]
    assert [row[3] for row in rows(load_annotations(tmp_path / "out"))] == [content(0), content(2)]


@pytest.mark.parametrize("where", ["local", "url"])
def test_a_stopped_run_goes_on(files: WriteFiles, tmp_path: Path, bucket: str, where: str) -> None:
    table = files()
    out, settings = {"local": str(tmp_path / "out"), "url": bucket}[where], PackSettings(max_videos=2)

    def stop(num_done: int, num_videos: int) -> None:
        if num_done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_videos(table, out, settings, stop)
    system, path = fsspec.url_to_fs(out)
    found = {os.path.basename(entry) for entry in system.ls(path, detail=False)}
    assert found == {"pack.json", "shard-000000.tar", "shard-000001.tar"}
    first = system.cat_file(f"{path}/shard-000000.tar")
    done: list[tuple[int, int]] = []
    report = pack_videos(table, out, settings, lambda *counts: done.append(counts))
    assert (report.num_videos, report.num_earlier, report.num_shards) == (8, 4, 4)
    assert done == [(count, 8) for count in range(5, 9)]
    pack_videos(table, str(tmp_path / "whole"), settings)
    for file in (tmp_path / "whole").iterdir():
        assert system.cat_file(f"{path}/{file.name}") == file.read_bytes(), file.name
    assert system.cat_file(f"{path}/shard-000000.tar") == first
    assert pack_videos(table, out, settings)[:3] == (8, 8, 4)


def test_only_what_belongs_together_is_packed_together(files: WriteFiles, tmp_path: Path) -> None:
    table, out = files(), str(tmp_path / "out")
    pack_videos(table, out)
    with pytest.raises(ConfigError, match=r"out was packed with seed=0, not 1; give a new folder"):
        pack_videos(table, out, PackSettings(seed=1))
    with pytest.raises(ConfigError, match=r"out was packed with annotations=\w{64}, not \w{64}"):
        pack_videos(files(folder="others", labels=np.zeros(8, dtype=np.int64)), out)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "train-0.tar").touch()
    with pytest.raises(ConfigError, match=r"foreign/train-0\.tar was not written by pack"):
        pack_videos(table, str(tmp_path / "foreign"))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file: cannot be written \(File exists\)"):
        pack_videos(table, str(tmp_path / "file"))


def test_an_index_that_does_not_fit_is_refused(files: WriteFiles, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack_videos(files(), str(out), PackSettings(max_videos=3))
    shard, index = out / "shard-000001.tar", out / "index.parquet"
    data, columns = shard.read_bytes(), parquet.read_table(index)
    shard.write_bytes(data[:-1])
    with pytest.raises(
        AnnotationError, match=rf"lists shard-000001\.tar with {len(data)} bytes, it has {len(data) - 1}"
    ):
        load_annotations(out)
    shard.unlink()
    with pytest.raises(AnnotationError, match=r"shard-000001\.tar: no such shard"):
        load_annotations(out)
    shard.write_bytes(data)
    (out / "more.tar").write_bytes(data)
    with pytest.raises(AnnotationError, match=r"index\.parquet: does not list more\.tar; move that file"):
        load_annotations(out)
    (out / "more.tar").unlink()
    sizes = columns["size"].to_pylist()
    changed = columns.set_column(2, "size", pa.array([10**9, *sizes[1:]])).replace_schema_metadata(
        columns.schema.metadata
    )
    parquet.write_table(changed, index)
    with pytest.raises(AnnotationError, match=r"row 0 is at bytes \d+ to 1\d{9} of .*shard-00000\d\.tar, which has"):
        load_annotations(out)
    index.write_bytes(b"torn")
    with pytest.raises(AnnotationError, match=r"index\.parquet: cannot be read"):
        load_annotations(out)
    parquet.write_table(pa.table({"shard": ["another index"]}), index)
    assert len(load_annotations(out)) == 8


@pytest.mark.parametrize("where", ["local", "url"])
def test_a_shard_that_changes_under_way_fails_its_videos(
    files: WriteFiles, tmp_path: Path, bucket: str, where: str
) -> None:
    out = {"local": str(tmp_path / "out"), "url": bucket}[where]
    pack_videos(files(), out, PackSettings(max_videos=4, seed=None))
    table = load_annotations(out)
    assert table.source(0) == content(0)
    system, path = fsspec.url_to_fs(out)
    system.pipe_file(f"{path}/shard-000001.tar", system.cat_file(f"{path}/shard-000001.tar")[:2000])
    with pytest.raises(VideoDecodeError, match=r"shard shard-000001\.tar cannot be read \(.*indexed\)"):
        table.source(7)
    system.rm(f"{path}/shard-000001.tar")
    with pytest.raises(VideoDecodeError, match=r"shard shard-000001\.tar cannot be read"):
        load_annotations(f"{out}/shard-000000.tar") and table.source(7)


def test_shards_packed_anew_are_read_anew(files: WriteFiles, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack_videos(files(3), str(out), PackSettings(seed=None))
    assert load_annotations(out).source(1) == content(1)
    for path in out.iterdir():
        path.unlink()
    other = files(3, folder="others")
    other.locate(1).write_bytes(content(1)[::-1][:-1] + b"!")
    pack_videos(other, str(out), PackSettings(seed=None))
    assert load_annotations(out).source(1) == other.locate(1).read_bytes()


def read_all(data: bytes) -> list[bytes]:
    table: VideoTable = pickle.loads(data)
    return [video for *_, video in rows(table)]


@pytest.mark.parametrize(("method", "num_processes"), [("fork", 2), pytest.param("spawn", 1, marks=pytest.mark.slow)])
def test_processes_read_side_by_side(files: WriteFiles, tmp_path: Path, method: str, num_processes: int) -> None:
    pack_videos(files(), str(tmp_path / "out"), PackSettings(max_videos=3))
    table = load_annotations(tmp_path / "out")
    expected = [content(row) for row in range(8)]
    assert [table.source(row) for row in range(8)] == expected
    data = pickle.dumps(table)
    with multiprocessing.get_context(method).Pool(num_processes) as pool:
        assert pool.map(read_all, [data] * 4) == [expected] * 4


def test_few_files_are_open_at_a_time(files: WriteFiles, tmp_path: Path) -> None:
    pack_videos(files(90), str(tmp_path / "out"), PackSettings(max_videos=1))
    table = load_annotations(tmp_path / "out")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    num_open = len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (num_open + 70, hard))
        for row in [*range(90), *range(90)]:
            assert table.source(row) == content(row)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
