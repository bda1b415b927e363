import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import braceexpand
import fsspec
import numpy as np
import pytest
import webdataset
from hypothesis import example, given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext

from mvit_video.data import VideoTable, load_annotations
from mvit_video.data.shards import read_shards
from mvit_video.data.shards.samples import split_name
from mvit_video.jobs.stores import expand_braces
from mvit_video.types import AnnotationError
from tests.fixtures.data import WriteTar

pytestmark = pytest.mark.usefixtures("own_cache")


def videos(table: VideoTable) -> list[bytes | Path]:
    return [table.source(row) for row in range(len(table))]


@pytest.mark.filterwarnings("ignore:unclosed file")
def test_shards_of_webdataset(tmp_path: Path) -> None:
    for shard in range(2):
        with webdataset.TarWriter(str(tmp_path / f"train-{shard:06d}.tar")) as tar:
            for i in range(3):
                sample = {"__key__": f"k/{i}", "mp4": b"%d%d" % (shard, i) * 300, "json": {"fps": 30}, "cls": i + shard}
                tar.write(sample)
    for source in ("", "train-{000000..000001}.tar", "train-*.tar"):
        table = load_annotations(tmp_path / source)
        assert videos(table) == [b"%d%d" % (shard, i) * 300 for shard in range(2) for i in range(3)]
        assert table.labels.tolist() == [0, 1, 2, 1, 2, 3]
        assert (table.num_classes, table.class_names, table.spans) == (4, None, None)
        assert table.path(4) == "train-000001.tar/k/1.mp4"
        assert table.locate(4) == tmp_path / "train-000001.tar/k/1.mp4"
    assert load_annotations(tmp_path / "train-000001.tar").labels.tolist() == [1, 2, 3]


def test_labels_by_name_and_in_json(write_tar: WriteTar, tmp_path: Path) -> None:
    write_tar(tmp_path / "a" / "0.tar", {"0.webm": b"A", "0.txt": "run\n", "1.mp4": b"B", "1.txt": "hop"})
    write_tar(tmp_path / "a" / "1.tar", {"0.mp4": b"C", "0.json": '{"label": "sit"}', "1.mp4": b"D", "1.json": "{}"})
    table = load_annotations(tmp_path / "a")
    assert (table.class_names, table.labels.tolist()) == (("hop", "run", "sit"), [1, 0, 2, -1])
    (tmp_path / "a" / "classes.txt").write_text("sit\nrun\nwalk\nhop\n")
    table = load_annotations(tmp_path / "a")
    assert (table.class_names, table.labels.tolist()) == (("sit", "run", "walk", "hop"), [1, 3, 0, -1])
    many = {"0.mp4": b"A", "0.json": '{"labels": ["b", "a"], "start": 1}', "1.mp4": b"B", "1.json": '{"labels": []}'}
    table = load_annotations(write_tar(tmp_path / "b" / "0.tar", many))
    assert [table.label_of(0), table.label_of(1)] == [[1, 0], []]
    assert [table.span(0), table.span(1)] == [(1.0, np.inf), None]
    table = load_annotations(
        write_tar(tmp_path / "c" / "0.tar", {"0.mp4": b"A", "0.txt": "", "note.md": b"", "1.mp4": b""})
    )
    assert (table.labels.tolist(), table.class_names) == ([-1, -1], None)


def test_members_in_any_order_and_among_others(write_tar: WriteTar, tmp_path: Path) -> None:
    members = {
        "./train/2.mp4": b"two", "./train/1.mp4": b"one" * 999, "__pack__.json": "no label", "dir.x/.DS_Store": b"",
        "dir.x/._1.mp4": b"fork", "./train/1.cls": "4", "./train/2.cls": "-1", "./train/1.wav": b"sound",
        "./train/3.cls": "9", "README": b"", f"{'d' * 120}/{'n' * 120}.mkv": b"long", "ü.avi": b"not ascii",
    }  # fmt: skip
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = write_tar(tmp_path / f"{form}" / "0.tar", members, form)
        with tarfile.open(path, "a", format=form) as tar:
            tar.addfile(folder := tarfile.TarInfo("folder.mp4"))
            folder.type = tarfile.DIRTYPE
            link = tarfile.TarInfo("link.mp4")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
        table = load_annotations(path)
        assert videos(table)[:4] == [b"two", b"one" * 999, b"long", b"not ascii"]
        assert table.labels.tolist()[:4] == [-1, 4, -1, -1]
        assert not any("link" in table.path(row) for row in range(len(table)))


@given(st.text("ab./_-é\n", max_size=12))
@example("a/b.c/d.rgb.MP4")
def test_names_are_parted_as_webdataset_does(name: str) -> None:
    key, extension = base_plus_ext(name)
    if "\n" not in name and not name.startswith("__"):
        assert split_name(name) == (None if key is None else (key, extension.lower()))


@pytest.mark.parametrize(
    "pattern",
    ["a.tar", "{0..2}.tar", "t-{08..11}.tar", "{a,b}{1..2}", "{3..1}", "{09..10}", "{a,b{1..2}}", "{a}", "x{y,}.tar"],
)
def test_braces_are_those_of_a_shell(pattern: str) -> None:
    assert sorted(expand_braces(pattern)) == sorted(braceexpand.braceexpand(pattern, escape=False))


def test_headers_are_read_once(write_tar: WriteTar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def count(real: Callable) -> Callable:
        return lambda shard: (calls.append(os.path.basename(shard.url)), real(shard))[1]

    from mvit_video.data.shards import archive

    monkeypatch.setattr(archive, "read_samples", count(archive.read_samples))
    for name in ("0", "1"):
        write_tar(tmp_path / "a" / f"{name}.tar", {"x.mp4": name.encode(), "x.cls": name})
    expected = [(b"0", 0), (b"1", 1)]

    def load() -> list[str]:
        calls.clear()
        table = load_annotations(tmp_path / "a")
        assert [(table.source(row), table.label_of(row)) for row in range(2)] == expected
        return sorted(calls)

    assert load() == ["0.tar", "1.tar"]
    assert load() == []
    write_tar(tmp_path / "a" / "1.tar", {"x.mp4": b"3", "x.cls": "3"})
    expected[1] = (b"3", 3)
    assert load() == ["1.tar"]
    next((tmp_path / "a" / ".mvit_video_index").glob("0.*")).write_bytes(b"torn")
    assert load() == ["0.tar"]
    assert load() == []
    for file in (tmp_path / "a" / ".mvit_video_index").iterdir():
        file.unlink()
    (tmp_path / "a" / ".mvit_video_index").rmdir()
    (tmp_path / "a" / ".mvit_video_index").touch()  # nothing can be written there
    assert load() == ["0.tar", "1.tar"]
    assert load() == []
    assert len(list((tmp_path / "cache" / "mvit_video" / "shards").iterdir())) == 2


def test_shards_behind_a_url(write_tar: WriteTar, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    try:
        for i in range(2):
            shard = write_tar(tmp_path / f"{i}.tar", {"x.mp4": b"%d" % i * 70_000, "x.cls": str(i), "y.mp4": b"last"})
            memory.put_file(str(shard), f"/far/away/{i}.tar")
        for source in ("", "/{0..1}.tar", "/*.tar"):
            table = load_annotations(f"memory://far/away{source}")
            assert videos(table) == [b"0" * 70_000, b"last", b"1" * 70_000, b"last"]
            assert table.labels.tolist() == [0, -1, 1, -1]
        with pytest.raises(AnnotationError, match=r"memory://far/away/2\.tar: no such shard"):
            load_annotations("memory://far/away/{0..2}.tar")
    finally:
        memory.store.clear()
    with pytest.raises(AnnotationError, match=r"memory://no/where: no such folder of shards"):
        load_annotations("memory://no/where")
    with pytest.raises(AnnotationError, match=r"nosuch://x/0\.tar: cannot be opened \(Protocol not known: nosuch\)"):
        load_annotations("nosuch://x/0.tar")


def test_nothing_there(write_tar: WriteTar, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"0\.tar: no such shard"):
        load_annotations(tmp_path / "0.tar")
    with pytest.raises(AnnotationError, match=r"x-\*\.tar: no file matches the pattern"):
        load_annotations(tmp_path / "x-*.tar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match=r"empty: has no \.tar files"):
        read_shards(tmp_path / "empty")
    with pytest.raises(AnnotationError, match=r"0\.tar: has no videos; .* KEY\.mp4 and its label KEY\.cls"):
        load_annotations(write_tar(tmp_path / "0.tar", {"x.cls": "1"}))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"x.cls": "run"}, r"content of 'x\.cls' at byte 512: expected a class number .* \.txt, got 'run'"),
        ({"x.cls": "-2"}, r"got '-2'"),
        ({"x.json": "{"}, r"content of 'x\.json' at byte 512: expected JSON, got b'\{'"),
        ({"x.json": "[" * 100_000}, r"expected JSON, got b'\[+\.\.\.$"),
        ({"x.json": "[1]"}, r"expected a JSON object, got \[1\]"),
        ({"x.json": '{"label": 1.5}'}, r"label of 'x\.json' .* got 1\.5"),
        ({"x.json": '{"label": true}'}, r"got True"),
        ({"x.json": '{"labels": [1, {}]}'}, r"labels of 'x\.json' .* got \[1, \{\}\]"),
        (
            {"y.mp4": b"", "y.json": '{"labels": [1]}', "x.txt": "run"},
            r"one kind of labels: .*y\.mp4 has \['1'\], .*'run'",
        ),
        ({"x.json": '{"start": 2, "end": 1}'}, r"expected seconds, 0 <= start < end, got \[2, 1\]"),
        ({"x.json": '{"start": NaN}'}, r"got \[nan, None\]"),
        ({"x.json": '{"segments": 3}'}, r"segments of 'x\.json' .* a list of objects, got 3"),
        ({"x.txt": b"\xff"}, r"content of 'x\.txt' .* text in UTF-8, got b'\\xff'"),
        ({"x.webm": b""}, r"'x\.webm' at byte 512 and 'x\.mp4' at byte 1024 have one key, 'x'"),
    ],
)
def test_labels_that_are_none_are_named(
    write_tar: WriteTar, tmp_path: Path, members: dict[str, bytes | str], message: str
) -> None:
    with pytest.raises(AnnotationError, match=rf"bad\.tar: .*{message}") as caught:
        load_annotations(write_tar(tmp_path / "bad.tar", {**members, "x.mp4": b""}))
    assert "\n" not in str(caught.value)


def test_shards_need_one_sort_of_label(write_tar: WriteTar, tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"x.mp4": b"", "x.cls": "3"})
    write_tar(tmp_path / "1.tar", {"x.mp4": b"", "x.txt": "run"})
    with pytest.raises(
        AnnotationError, match=r"1\.tar/x\.mp4: label 'run' mixes class names and class numbers; the first is '3'"
    ):
        load_annotations(tmp_path)
    write_tar(tmp_path / "1.tar", {"x.mp4": b"", "x.json": '{"labels": []}'})
    with pytest.raises(AnnotationError, match=r"1\.tar: has lists of labels, .*0\.tar has single labels"):
        load_annotations(tmp_path)
    write_tar(tmp_path / "1.tar", {"x.mp4": b"", "x.json": '{"label": "3"}', "y.mp4": b"", "y.cls": "2.0"})
    assert load_annotations(tmp_path).labels.tolist() == [3, 3, 2]
    write_tar(tmp_path / "1.tar", {"x.mp4": b"", "x.json": '{"labels": [1, "a"]}'})
    with pytest.raises(AnnotationError, match=r"1\.tar/x\.mp4: label 'a' mixes class names and class numbers"):
        load_annotations(tmp_path / "1.tar")


def test_a_name_with_dots_keeps_its_label(write_tar: WriteTar, tmp_path: Path) -> None:
    """The longest common name counts; the one up to the first dot, which WebDataset takes, is the last resort."""
    members = {
        "X 2.0 (Clean).mp4": b"A", "X 2.0 (Clean).json": '{"label": "run"}', "X 2.5.mp4": b"B", "X 2.5.txt": "hop",
        "y.rgb.mp4": b"C", "y.txt": "sit", "v1.0/z.mp4": b"D", "v1.0/z.txt": "hop",
    }  # fmt: skip
    table = load_annotations(write_tar(tmp_path / "0.tar", members))
    assert table.class_names == ("hop", "run", "sit")
    assert table.labels.tolist() == [1, 0, 2, 0]
    with pytest.raises(AnnotationError, match=r"'y\.rgb\.mp4' at .* and 'y\.mp4' at .* have one key, 'y'"):
        load_annotations(write_tar(tmp_path / "0.tar", {**members, "y.mp4": b""}))


def test_a_video_without_labels_among_lists_is_refused(write_tar: WriteTar, tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {"x.mp4": b"", "x.json": '{"labels": [1]}', "y.mp4": b""}
    with pytest.raises(AnnotationError, match=r"0\.tar/y\.mp4: has no labels, but other videos have lists"):
        load_annotations(write_tar(tmp_path / "0.tar", members))


@pytest.mark.parametrize("where", ["local", "url"])
def test_names_beside_the_shards_number_the_classes(write_tar: WriteTar, tmp_path: Path, where: str) -> None:
    members: dict[str, bytes | str] = {"x.mp4": b"", "x.txt": "run", "y.mp4": b"", "y.txt": "hop"}
    local = write_tar(tmp_path / "0.tar", members)
    memory = fsspec.filesystem("memory")
    memory.put_file(str(local), "/names/0.tar")
    source = {"local": str(local), "url": "memory://names/0.tar"}[where]
    system, path = fsspec.url_to_fs(source)
    try:
        assert load_annotations(source).labels.tolist() == [1, 0]
        system.pipe_file(path.replace("0.tar", "classes.txt"), b"run\nhop\nsit\n")
        table = load_annotations(source)
        assert (table.labels.tolist(), table.class_names) == ([0, 1], ("run", "hop", "sit"))
        system.pipe_file(path.replace("0.tar", "classes.txt"), b"run\nsit\n")
        with pytest.raises(
            AnnotationError, match=r"0\.tar/y\.mp4: label 'hop' is not one of the 2 classes of .*classes\.txt"
        ):
            load_annotations(source)
        system.pipe_file(path.replace("0.tar", "classes.txt"), b"run\nrun\n")
        with pytest.raises(AnnotationError, match=r"/classes\.txt:2: class 'run' is repeated") as caught:
            load_annotations(source)
        assert source.rpartition("/")[0] in str(caught.value)
    finally:
        memory.store.clear()
