"""What stands in the cell of a label means the same in every format."""

import io
import json
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from mvit_video.data import VideoTable, load_annotations
from mvit_video.data.settings import LoadingSpec
from mvit_video.data.table.labels import parse_cell, parse_label
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import AnnotationError
from tests.fixtures.data import Write
from tests.fixtures.places import SHARED

Writer = Callable[[Path, list[Any]], Path]

CASES = SHARED / "cases"


def write_csv(folder: Path, cells: list[Any]) -> Path:
    rows = "".join(f'v{i}.mp4,"{cell}"\n' for i, cell in enumerate(cells))
    (folder / "data.csv").write_text(f"path,label\n{rows}")
    return folder / "data.csv"


def write_list(folder: Path, cells: list[Any]) -> Path:
    (folder / "data.txt").write_text("".join(f"v{i}.mp4\t{cell}\n" for i, cell in enumerate(cells)))
    return folder / "data.txt"


def write_jsonl(folder: Path, cells: list[Any]) -> Path:
    rows = (json.dumps({"path": f"v{i}.mp4", "label": cell}) for i, cell in enumerate(cells))
    (folder / "data.jsonl").write_text("\n".join(rows))
    return folder / "data.jsonl"


def write_parquet(folder: Path, cells: list[Any]) -> Path:
    table = pa.table({"path": [f"v{i}.mp4" for i in range(len(cells))], "label": pa.array(cells, from_pandas=False)})
    parquet.write_table(table, folder / "data.parquet")
    return folder / "data.parquet"


def write_shard(folder: Path, cells: list[Any]) -> Path:
    with tarfile.open(folder / "data.tar", "w") as tar:
        for i, cell in enumerate(cells):
            for name, data in ((f"v{i}.json", json.dumps({"label": cell}).encode()), (f"v{i}.mp4", b"x")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return folder / "data.tar"


WRITERS = [write_csv, write_list, write_jsonl, write_parquet, write_shard]


def labels_of(table: VideoTable) -> list[int | list[int]]:
    return [table.label_of(row) for row in range(len(table))]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("cells", [[float(i) for i in range(12)], [f"{i}.0" for i in range(12)], ["0", "1.", *"23456"]])
def test_whole_floats_are_class_numbers(writer: Writer, cells: list[Any], tmp_path: Path) -> None:
    table = load_annotations(writer(tmp_path, cells))
    assert table.class_names is None
    assert labels_of(table) == list(range(len(cells)))


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    "cells", [["[0, 2]", "[1]", "[]"], ["0,2", "1", "[]"], ["0; 2", "(1,)", "[ ]"], ["[0 2]", 1, "[]"]]
)
def test_a_cell_with_a_list_holds_several_labels(writer: Writer, cells: list[Any], tmp_path: Path) -> None:
    if writer is write_parquet:
        cells = [str(cell) for cell in cells]
    assert labels_of(load_annotations(writer(tmp_path, cells))) == [[0, 2], [1], []]


@pytest.mark.parametrize("writer", WRITERS)
def test_names_in_lists_of_one_cell(writer: Writer, tmp_path: Path) -> None:
    table = load_annotations(writer(tmp_path, ["['run', 'ride a bike']", "run; jump"]))
    assert table.class_names == ("jump", "ride a bike", "run")
    assert labels_of(table) == [[2, 1], [2, 0]]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("nan", "label 'nan' is missing; write the class, or -1"),
        ("NA", "label 'NA' is missing"),
        ("None", "label 'None' is missing"),
        ("0.5", r"a label must be a class name or a class number, got 0\.5"),
        ("run,jump", "label 'run,jump' may be one class or several: write several labels as run;jump"),
        ("run|jump", "may be one class or several"),
        ("1 2", "label '1 2' may be one class or several"),
        ("[run", "mixes|label"),
        ("[put [it] down]", r"label '\[put \[it\] down\]' may be a list or a class"),
    ],
)
def test_what_is_ambiguous_is_refused_with_the_cell(writer: Writer, cell: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=reason) as caught:
        load_annotations(writer(tmp_path, ["3", cell]))
    assert "\n" not in str(caught.value)
    assert caught.value.line == {write_csv: 3, write_list: 2, write_jsonl: 2}.get(writer, 0)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_name_that_is_known_means_itself(writer: Writer, tmp_path: Path) -> None:
    names = ["none", "run,jump", "[put] it [down]", "2.5"]
    table = load_annotations(writer(tmp_path, list(reversed(names))), class_names=names)
    assert table.labels.tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize("labels", [[0.0, float("nan")], [True, False], [1.5, 2.0], [1e300, 0.0]])
def test_numbers_of_parquet_that_are_no_classes(labels: list[Any], tmp_path: Path) -> None:
    with pytest.raises(
        AnnotationError, match=r"data\.parquet: (row [12]: label nan is|column label has type bool|row 1: )"
    ):
        load_annotations(write_parquet(tmp_path, labels))


def test_numbers_and_names_that_are_numbers_are_not_confused(write: Write) -> None:
    names = ["0", "1", "10", "2"]
    with pytest.raises(AnnotationError, match=r":2: label 2 may be class 2 \('10'\) or the name of class 3 \('2'\)"):
        load_annotations(write("a.mp4 0\nb.mp4 2\n"), class_names=names)
    assert load_annotations(write("a.mp4 0\nb.mp4 1\n"), class_names=names).labels.tolist() == [0, 1]


def test_integers_are_tested_beside_floats_in_the_same_order(write: Write) -> None:
    train = write("".join(f"v.mp4,{i}.0\n" for i in range(12)), "train.csv")
    test = write("".join(f"v.mp4 {i}\n" for i in range(12)), "test.txt")
    data = VideoDataModule(train=str(train), val=str(train), test=str(test), loading=LoadingSpec(1, num_workers=0))
    data.setup("fit")
    data.setup("test")
    assert [table.labels.tolist() for table in data.tables.values()] == [list(range(12))] * 3


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_checkpoint_with_numbers_as_names_keeps_their_order(write: Write) -> None:
    """Checkpoints of before have floats as names in the order of strings."""
    names = sorted(f"{i}.0" for i in range(12))
    floats = write("".join(f"v.mp4 {i}.0\n" for i in range(12)), "floats.txt")
    integers = write("".join(f"v.mp4 {i}\n" for i in range(12)), "integers.txt")
    data = VideoDataModule(test=str(floats), loading=LoadingSpec(num_workers=0))
    data.setup("test")
    data.load_state_dict({"class_names": names})
    assert [names[label] for label in data.tables["test"].labels] == [f"{i}.0" for i in range(12)]
    data = VideoDataModule(test=str(integers), loading=LoadingSpec(num_workers=0))
    data.setup("test")
    with pytest.raises(AnnotationError, match=r"label 2 may be class 2 \('10\.0'\) or the name of class 4 \('2\.0'\)"):
        data.load_state_dict({"class_names": names})


@pytest.mark.parametrize("text", ["path label\nv0.mp4 cook\nv1.mp4 run\n", "Path\tLabel\nv0.mp4\tcook\nv1.mp4\trun\n"])
def test_a_list_may_have_a_header(write: Write, text: str) -> None:
    table = load_annotations(write(text))
    assert table.paths.to_pylist() == ["v0.mp4", "v1.mp4"]
    assert table.class_names == ("cook", "run")


@pytest.mark.parametrize("header", ["label path", "video class", "filename,label", "name;label x"])
def test_another_header_is_no_video(write: Write, header: str) -> None:
    with pytest.raises(AnnotationError, match=rf"list\.txt:1: .*{header}.*write `path label`"):
        load_annotations(write(f"{header}\nv0.mp4 cook\nv1.mp4 run\n"))


@pytest.mark.parametrize("header", ["name label", "path class", "File\tCategory"])
def test_a_header_above_paths_without_suffix_is_no_video(write: Write, header: str) -> None:
    with pytest.raises(AnnotationError, match=r"list\.txt:1: .* looks like a header"):
        load_annotations(write(f"{header}\nv0\tcook\nv1\trun\n"))


def test_floats_behind_a_path_with_a_comma(write: Write) -> None:
    table = load_annotations(write("a b, c.mp4 3.0\nd.mp4, 0.0\n"))
    assert table.paths.to_pylist() == ["a b, c.mp4", "d.mp4"]
    assert table.labels.tolist() == [3, 0]
    with pytest.raises(AnnotationError, match=r":1: the path does not end clearly in 'a b, c\.mp4 run'"):
        load_annotations(write("a b, c.mp4 run\n"))


@given(st.text("[](){}'\",;| .0123-+einfa", max_size=12))
def test_a_cell_is_read_or_refused(cell: str) -> None:
    with suppress(ValueError):
        labels = parse_cell(cell)
        labels = [labels] if isinstance(labels, str) else labels
        assert all(label == label.strip() != "" for label in labels)
        assert [parse_label(label) for label in labels] == labels


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the sample inputs of ../shared/cases")
def test_recorded_cases() -> None:
    table = load_annotations(CASES / "float_labels.csv")
    assert (table.labels.tolist(), table.class_names) == (list(range(12)), None)
    assert labels_of(load_annotations(CASES / "list_in_a_cell.csv")) == [[0, 2], [1]]
    table = load_annotations(CASES / "header_and_blanks.txt")
    assert (table.paths.to_pylist(), table.class_names) == (["v0.mp4", "v1.mp4"], ("cook", "run"))
    table = load_annotations(CASES / "dotted_names.tar")
    assert (table.labels.tolist(), table.class_names) == ([0, 1], ("run", "walk"))
