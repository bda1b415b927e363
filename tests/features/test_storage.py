"""Videos and features at URLs, on fsspec's file system in memory."""

import json
import shutil
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import parquet
from rich.console import Console

from mvit_video.curation.packing import PackSettings, pack_videos
from mvit_video.data import load_annotations
from mvit_video.features import Extractor, ExtractSettings, Video
from mvit_video.features.extraction import Outcome, Summary, extract_videos
from mvit_video.features.inputs import find_inputs
from mvit_video.jobs import Folder, WorkFailure
from mvit_video.jobs.arrow import compute
from mvit_video.types import ConfigError, VideoDecodeError


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """The file system of `memory://`, empty."""
    system = MemoryFileSystem()
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Extractor:
    return Extractor(ExtractSettings(str(tiny_checkpoint), window="8", device="cpu"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with two short videos each."""
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("left/a.mp4", "left/b.mp4", "right/c.mp4", "right/d.mp4")):
        (folder / name).parent.mkdir(exist_ok=True)
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
            for i in range(9 + number):
                picture = np.full((40, 48, 3), 50 * number, np.uint8)
                picture[:, : i + 1] = 200
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return folder


def upload(system: MemoryFileSystem, folder: Path, to: str) -> None:
    for path in folder.rglob("*.*"):
        system.pipe_file(f"{to}/{path.relative_to(folder)}", path.read_bytes())


def run(extractor: Extractor, source: str, out: str, limit: int | None = None, **options: Any) -> Summary:
    """An extraction in this process, which perhaps ends early."""

    def engine(videos: Iterable[Video], _: object) -> Generator[Outcome, None, None]:
        for number, video in enumerate(videos):
            if number == limit:
                raise RuntimeError("the machine is gone")
            try:
                yield video, extractor.extract(video)
            except VideoDecodeError as error:
                yield video, WorkFailure("error", error.reason)

    return extract_videos(find_inputs([source]), extractor, engine, out, options.get("format", "parquet"), Console())


def rows_at(system: MemoryFileSystem, out: str) -> pa.Table:
    parts = system.glob(f"{out}/features/part-*.parquet")
    tables = [parquet.read_table(pa.BufferReader(system.cat_file(part))) for part in parts]
    return pa.concat_tables(tables).sort_by([("path", "ascending"), ("window", "ascending")])


def test_features_at_a_url_equal_those_in_a_folder(
    memory: MemoryFileSystem, extractor: Extractor, videos: Path, tmp_path: Path
) -> None:
    there, here = run(extractor, str(videos), "memory://bucket/out"), run(extractor, str(videos), str(tmp_path))
    assert (there.num_extracted, there.num_failed) == (here.num_extracted, here.num_failed) == (4, 0)
    local = parquet.read_table(tmp_path / "features").sort_by([("path", "ascending"), ("window", "ascending")])
    remote = rows_at(memory, "/bucket/out")
    assert remote.equals(local)
    assert remote.schema.metadata == local.schema.metadata
    assert memory.cat_file("/bucket/out/extract.json") == (tmp_path / "extract.json").read_bytes()
    manifest = parquet.read_table(pa.BufferReader(memory.cat_file("/bucket/out/manifest.parquet")))
    assert manifest["status"].to_pylist() == ["ok"] * 4
    assert str(there.out / "manifest.parquet") == "memory://bucket/out/manifest.parquet"


def test_an_extraction_to_a_url_goes_on_where_it_ended(
    memory: MemoryFileSystem, extractor: Extractor, videos: Path
) -> None:
    with pytest.raises(RuntimeError, match="gone"):
        run(extractor, str(videos), "memory://bucket/out", limit=2)
    # a part that no ledger knows of, as a kill between the two leaves it
    (part,) = memory.glob("/bucket/out/features/part-*.parquet")
    unlisted = parquet.read_table(pa.BufferReader(memory.cat_file(part)))
    unlisted = unlisted.set_column(11, "video", pa.array([str(videos / "right" / "c.mp4")] * len(unlisted)))
    Folder("memory://bucket/out/features").write_table("part-0.parquet", unlisted)
    again = run(extractor, str(videos), "memory://bucket/out")
    assert (again.num_before, again.num_extracted) == (2, 2)
    run(extractor, str(videos), "memory://bucket/whole")
    assert rows_at(memory, "/bucket/out").equals(rows_at(memory, "/bucket/whole"))
    assert len(memory.glob("/bucket/out/features/*")) == 1
    assert run(extractor, str(videos), "memory://bucket/out").num_before == 4


def test_what_a_url_cannot_hold_is_refused(memory: MemoryFileSystem, extractor: Extractor, videos: Path) -> None:
    with pytest.raises(ConfigError, match="--format npy cannot be written to memory://bucket/out/features; use parq"):
        run(extractor, str(videos), "memory://bucket/out", format="npy")
    memory.pipe_file("/bucket/out/extract.json", json.dumps({"key": "of others"}).encode())
    with pytest.raises(ConfigError, match=r"memory://bucket/out/extract\.json: not the record of an extraction"):
        run(extractor, str(videos), "memory://bucket/out")
    with pytest.raises(ConfigError, match="nowhere://out: cannot be opened"):
        run(extractor, str(videos), "nowhere://out")


def test_videos_are_found_at_urls(memory: MemoryFileSystem, videos: Path) -> None:
    upload(memory, videos, "/bucket/videos")
    memory.pipe_file("/bucket/videos/notes.txt", b"no video")
    every = [f"memory:///bucket/videos/{name}" for name in ("left/a.mp4", "left/b.mp4", "right/c.mp4", "right/d.mp4")]
    assert find_inputs(["memory://bucket/videos"]).names.to_pylist() == every
    assert find_inputs(["memory://bucket/videos/*/?.mp4"]).names.to_pylist() == every
    assert find_inputs([every[2]]).names.to_pylist() == [every[2]]
    with pytest.raises(ConfigError, match="memory://bucket/none: cannot be listed"):
        find_inputs(["memory://bucket/none"])
    with pytest.raises(ConfigError, match=r"\*\.avi: has no videos and no \.tar files"):
        find_inputs(["memory://bucket/videos/*.avi"])


def test_videos_are_read_from_urls_and_shards(
    memory: MemoryFileSystem, extractor: Extractor, videos: Path, tmp_path: Path
) -> None:
    upload(memory, videos, "/bucket/videos")
    memory.pipe_file("/bucket/videos/left/b.mp4", b"no longer a video")
    pack_videos(load_annotations(str(videos)), "memory://bucket/shards", PackSettings(max_videos=3))
    summaries = {name: run(extractor, f"memory://bucket/{name}", str(tmp_path / name)) for name in ("videos", "shards")}
    assert [(one.num_extracted, one.num_failed) for one in summaries.values()] == [(3, 1), (4, 0)]
    expected = {path.name: extractor.extract(Video(path.name, path)).feature for path in videos.rglob("*.mp4")}
    for name in summaries:
        rows = parquet.read_table(tmp_path / name / "features")
        for path in set(rows["path"].to_pylist()):
            found = np.stack(rows.filter(compute.equal(rows["path"], path))["feature"].to_numpy())
            np.testing.assert_array_equal(found, expected[Path(path).name][:, 0])


@pytest.mark.parametrize("where", ["local", "url", "file_at_url"])
def test_a_repacked_shard_is_extracted_again(
    memory: MemoryFileSystem, extractor: Extractor, videos: Path, tmp_path: Path, where: str
) -> None:
    """Other videos of the same names and sizes, in a shard of the same name and size."""
    files = sorted(videos.rglob("*.mp4"))
    size = max(file.stat().st_size for file in files)
    source = {"local": f"{tmp_path}/shards", "url": "memory://bucket/shards", "file_at_url": "memory://bucket/videos"}

    def put(order: list[Path]) -> None:
        folder = tmp_path / "videos"
        for name, file in zip(("left/a.mp4", "left/b.mp4", "right/c.mp4", "right/d.mp4"), order, strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(file.read_bytes().ljust(size, b"\0"))
        if where == "file_at_url":
            upload(memory, folder, "/bucket/videos")
            return
        if where == "local":
            shutil.rmtree(tmp_path / "shards", ignore_errors=True)
        memory.store.clear()
        pack_videos(load_annotations(str(folder)), source[where], PackSettings(seed=None))

    put(files)
    assert run(extractor, source[where], str(tmp_path / "out")).num_extracted == 4
    assert run(extractor, source[where], str(tmp_path / "out")).num_before == 4
    put(files[::-1])
    again = run(extractor, source[where], str(tmp_path / "out"))
    assert (again.num_extracted, again.num_before) == (4, 0)
    whole = run(extractor, source[where], str(tmp_path / "whole"))
    assert whole.num_extracted == 4
    tables = [parquet.read_table(tmp_path / name / "features").sort_by("path") for name in ("out", "whole")]
    assert tables[0].equals(tables[1])


def test_a_folder_knows_its_files(memory: MemoryFileSystem, tmp_path: Path) -> None:
    for folder in (Folder(tmp_path / "a[b]*"), Folder("memory://bucket/a")):
        assert folder.names("*") == []
        assert folder.read("none") is None
        folder.write("part-2.txt", b"two")
        folder.write("part-1.txt", b"one")
        folder.write("part-1.txt", b"uno")
        (folder / "deeper").write("part-3.txt", b"")
        assert folder.names("part-*.txt") == ["part-1.txt", "part-2.txt"]
        assert (folder.read("part-1.txt"), folder.size("part-2.txt")) == (b"uno", 3)
        folder.remove("part-1.txt")
        rows = pa.table({"one": [1, 2], "two": [3, 4]})
        folder.write_table("rows.parquet", rows)
        assert folder.read_table("rows.parquet").equals(rows)
        assert folder.read_table("rows.parquet", ["two"]).equals(rows.select(["two"]))
        assert folder.names("*.*") == ["part-2.txt", "rows.parquet"]
