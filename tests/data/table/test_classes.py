import io
import json
import tarfile
from pathlib import Path

import pytest

from mvit_video.data import load_annotations
from mvit_video.types import AnnotationError, ConfigError
from tests.fixtures.data import Write

LIST = "a.mp4\trun\nb.mp4\tclimb a rope\n"
NAMES = ["swim", "run", "climb a rope"]


@pytest.mark.parametrize("name", ["classes.txt", "classes.json"])
def test_a_file_beside_the_annotations_numbers_the_names(write: Write, name: str) -> None:
    write("\n".join(NAMES) + "\n" if name.endswith("txt") else json.dumps(NAMES), name)
    table = load_annotations(write(LIST))
    assert table.class_names == tuple(NAMES)
    assert table.labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(NAMES),
        json.dumps({name: i for i, name in enumerate(NAMES)}),
        json.dumps({name: str(i) for i, name in reversed(list(enumerate(NAMES)))}),
        json.dumps({str(i): name for i, name in enumerate(NAMES)}),
        json.dumps({f'"{name}"': i for i, name in enumerate(NAMES)}),
    ],
)
def test_names_and_numbers_in_json(write: Write, text: str) -> None:
    table = load_annotations(write(LIST), class_names=write(text, "names.json"))
    assert table.class_names == tuple(NAMES)
    assert table.labels.tolist() == [1, 2]


def test_names_that_are_given_come_before_the_file_beside(write: Write) -> None:
    write("run\nclimb a rope\n", "classes.txt")
    table = load_annotations(write(LIST), class_names=NAMES)
    assert table.labels.tolist() == [1, 2]
    assert table.num_classes == 3


def test_numbers_get_their_names(write: Write) -> None:
    table = load_annotations(write("a.mp4 2\nb.mp4 0\nc.mp4 -1\n"), class_names=NAMES)
    assert table.class_names == tuple(NAMES)
    assert table.labels.tolist() == [2, 0, -1]
    with pytest.raises(AnnotationError, match=r"list\.txt:2: label 3 has no name; class_names has 3 classes"):
        load_annotations(write("a.mp4 2\nb.mp4 3\n"), class_names=NAMES)


def test_a_name_that_is_not_there_names_the_nearest(write: Write) -> None:
    path = write("a.mp4\trun\nb.mp4\tclimb the rope\n")
    with pytest.raises(AnnotationError, match=r":2: label 'climb the rope' is not one of the 3 .*'climb a rope'"):
        load_annotations(path, class_names=NAMES)


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("", "classes.txt", "has no class names"),
        ("run\n\nclimb\nrun\n", "classes.txt", "classes.txt:4: class 'run' is repeated"),
        ("[1, 2]", "classes.json", "has no class names"),
        ("{", "classes.json", "is not JSON"),
        ('{"run": 0, "climb": 2}', "classes.json", "has 2 classes but no number 1"),
        ('{"run": 0, "climb": "x"}', "classes.json", "gives class 'climb' the number 'x'"),
        ('{"run": 0, "climb": 0.5}', "classes.json", r"gives class 'climb' the number 0\.5"),
    ],
)
def test_files_that_hold_no_classes_are_refused(write: Write, text: str, name: str, reason: str) -> None:
    write(text, name)
    with pytest.raises(AnnotationError, match=reason):
        load_annotations(write(LIST))


def test_a_name_given_twice_is_refused(write: Write) -> None:
    with pytest.raises(ConfigError, match="class_names has 'run' twice"):
        load_annotations(write(LIST), class_names=["run", "climb a rope", "run"])


def write_shard(folder: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return folder / "a.tar"


def test_shards_are_numbered_as_asked(tmp_path: Path) -> None:
    names = {"a.mp4": b"1", "a.txt": b"run", "b.mp4": b"2", "b.txt": b"climb a rope"}
    path = write_shard(tmp_path, names)
    assert load_annotations(path).labels.tolist() == [1, 0]
    table = load_annotations(path, class_names=NAMES)
    assert table.labels.tolist() == [1, 2]
    assert table.class_names == tuple(NAMES)
    assert table.source(1) == b"2"
    with pytest.raises(AnnotationError, match=r"a\.tar/b\.mp4: label 'climb a rope' is not one of the 2 classes"):
        load_annotations(path, class_names=["run", "climb"])


def test_numbered_shards_get_their_names(tmp_path: Path) -> None:
    files = {"a.mp4": b"1", "a.json": b'{"labels": [0, 2]}', "b.mp4": b"2", "b.json": b'{"labels": []}'}
    path = write_shard(tmp_path, files)
    table = load_annotations(path, class_names=NAMES)
    assert [table.label_of(row) for row in range(2)] == [[0, 2], []]
    assert table.class_names == tuple(NAMES)
    with pytest.raises(AnnotationError, match="label 2 has no name; class_names has 2 classes"):
        load_annotations(path, class_names=NAMES[:2])
