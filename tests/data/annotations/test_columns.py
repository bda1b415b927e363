import csv
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

from mvit_video.data import VideoTable, load_annotations
from mvit_video.types import AnnotationError
from tests.fixtures.data import Write

RECORDS: list[dict[str, Any]] = [
    {"path": "a.mp4", "label": 3, "start": 1.5, "end": 4},
    {"path": "b, c.mp4", "label": 0, "start": None, "end": None},
    {"path": "d.mp4", "label": 1, "start": 2, "end": None},
]


def write_csv(folder: Path, records: list[dict[str, Any]]) -> Path:
    with (folder / "data.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    return folder / "data.csv"


def write_jsonl(folder: Path, records: list[dict[str, Any]]) -> Path:
    (folder / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder / "data.jsonl"


def write_json(folder: Path, records: list[dict[str, Any]]) -> Path:
    (folder / "data.json").write_text(json.dumps(records, indent=1))
    return folder / "data.json"


def write_parquet(folder: Path, records: list[dict[str, Any]]) -> Path:
    parquet.write_table(pa.Table.from_pylist(records), folder / "data.parquet")
    return folder / "data.parquet"


WRITERS = [write_csv, write_jsonl, write_json, write_parquet]
Writer = Callable[[Path, list[dict[str, Any]]], Path]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_part_of_a_video_has_a_start_and_an_end(writer: Writer, tmp_path: Path) -> None:
    table = load_annotations(writer(tmp_path, RECORDS))
    assert table.paths.to_pylist() == ["a.mp4", "b, c.mp4", "d.mp4"]
    assert table.labels.tolist() == [3, 0, 1]
    assert [table.span(row) for row in range(3)] == [(1.5, 4.0), None, (2.0, float("inf"))]
    assert table.root == tmp_path


@pytest.mark.parametrize("writer", WRITERS)
def test_names_are_numbered_in_sorted_order(writer: Writer, tmp_path: Path) -> None:
    table = load_annotations(
        writer(tmp_path, [{"path": "a.mp4", "label": "swim"}, {"path": "b.mp4", "label": "climb a rope"}])
    )
    assert table.class_names == ("climb a rope", "swim")
    assert table.labels.tolist() == [1, 0]
    assert table.span(0) is None


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("numbers", [[[3, 17], [], [5]], [["3", "17"], [], ["5"]]])
def test_a_list_is_several_labels(writer: Writer, numbers: list[list[Any]], tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [{"path": f"{i}.mp4", "labels": labels} for i, labels in enumerate(numbers)]
    if writer is write_csv:
        records = [record | {"labels": "; ".join(map(str, record["labels"]))} for record in records]
    table = load_annotations(writer(tmp_path, records))
    assert [table.label_of(row) for row in range(3)] == [[3, 17], [], [5]]
    assert table.num_classes == 18


def test_names_in_lists_are_numbered_too(tmp_path: Path) -> None:
    records = [{"path": "a", "label": ["run", "climb"]}, {"path": "b", "label": ["run"]}]
    table = load_annotations(write_jsonl(tmp_path, records))
    assert table.class_names == ("climb", "run")
    assert [table.label_of(0), table.label_of(1)] == [[1, 0], [1]]


@pytest.mark.parametrize("writer", [write_jsonl, write_json, write_parquet])
def test_null_is_an_unknown_label(writer: Writer, tmp_path: Path) -> None:
    table = load_annotations(writer(tmp_path, [{"path": "a", "label": None}, {"path": "b", "label": "run"}]))
    assert table.labels.tolist() == [-1, 0]
    table = load_annotations(writer(tmp_path, [{"path": "a", "label": None}, {"path": "b", "label": None}]))
    assert table.labels.tolist() == [-1, -1]
    assert table.class_names is None


@pytest.mark.parametrize(
    ("text", "name", "line", "reason"),
    [
        ("path,label,start,end\na,0,x,3\n", "a.csv", 2, "start 'x' is not a number of seconds"),
        ("path,label,start,end\na,0,1,3\nb,0,3,3\n", "a.csv", 3, "start=3 and end=3 are not a segment"),
        ("path,label,start,end\na,0,-1,3\n", "a.csv", 2, "start=-1"),
        ("path,label,start,end\na,0,1,nan\n", "a.csv", 2, "end 'nan' is not a number"),
        ("path,label\na,\n", "a.csv", 2, "has no label, got 'a,'"),
        ("path,labels\na,3;x\n", "a.csv", 2, "label 'x' mixes"),
        ("path,labels\na,3;-1\n", "a.csv", 2, r"label -1 \(unknown\) cannot"),
        ('{"path": "a", "label": 0}\nb 1\n', "a.jsonl", 2, "is not a JSON object, got 'b 1'"),
        ('{"path": "a", "label": 0}\n{"path": 3, "label": 0}\n', "a.jsonl", 2, '"path" must be a string, got 3'),
        ('{"path": "a", "label": 0}\n\n{"path": "b"}\n', "a.jsonl", 3, 'has no "label"'),
        ('{"path": "a", "label": 0.5}\n', "a.jsonl", 1, "class name or a class number, got 0.5"),
        ('{"path": "a", "label": true}\n', "a.jsonl", 1, "got True"),
        ('{"path": "a", "label": {}}\n', "a.jsonl", 1, "got {}"),
        ('{"path": "a", "label": 99999999999999999999}\n', "a.jsonl", 1, "label 99999999999999999999 is out of range"),
        ('{"path": "a", "label": ""}\n', "a.jsonl", 1, "has an empty label"),
        ('{"path": "", "label": 0}\n', "a.jsonl", 1, "has no path"),
        ('{"path": "a\\u0000b", "label": 0}\n', "a.jsonl", 1, "has a zero byte"),
        ('{"path": "\\ud800", "label": 0}\n', "a.jsonl", 1, '"path" must be a string, got '),
        ('{"path": "a", "label": 0, "start": "1"}\n', "a.jsonl", 1, "\"start\" must be a number of seconds, got '1'"),
        ('{"path": "a", "label": [1]}\n{"path": "b", "label": 1}\n', "a.jsonl", 2, "mixes single labels and lists"),
        ('{"path": "a", "label": [1]}\n{"path": "b", "label": null}\n', "a.jsonl", 2, "has no labels, but other"),
        ("[" * 100_000 + "\n", "a.jsonl", 0, "cannot be read as JSON"),
        ('{"a": ' * 100_000 + "\n", "a.jsonl", 1, "is not a JSON object"),
        ('[{"path": "a", "label": 0}, {"path": "b"}]', "a.json", 0, 'record 2: has no "label"'),
        ('[{"path": "a", "label": 0},\n {"path": ]', "a.json", 2, "is not JSON .Expecting value at column 11"),
        ("[]", "a.json", 0, "has no videos"),
        ("[3]", "a.json", 0, "record 1: expected an object with path and label, got '3'"),
    ],
)
def test_problems_name_the_line_and_the_value(write: Write, text: str, name: str, line: int, reason: str) -> None:
    path = write(text, name)
    with pytest.raises(AnnotationError, match=reason) as caught:
        load_annotations(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"video": ["a"], "label": [0]}, "has the columns video, label; it needs path and label"),
        ({"path": [1], "label": [0]}, "column path has type int64, not strings"),
        ({"path": ["a"], "label": [0.5]}, r"row 1: a label must be a class name or a class number, got 0\.5"),
        ({"path": ["a", None], "label": [0, 1]}, "row 2: has no path"),
        ({"path": ["a", "b"], "label": [0, -2]}, "row 2: label -2 is out of range"),
        ({"path": ["a"], "label": [0], "start": ["x"]}, "column start has type .*string, not seconds"),
    ],
)
def test_problems_of_parquet_name_the_row(columns: dict[str, list[Any]], reason: str, tmp_path: Path) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(AnnotationError, match=reason):
        load_annotations(tmp_path / "a.parquet")


def test_damaged_parquet_is_told_in_one_line(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, RECORDS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AnnotationError, match="cannot be read as Parquet") as caught:
        load_annotations(path)
    assert "\n" not in str(caught.value)


def test_dictionaries_in_parquet_are_names(tmp_path: Path) -> None:
    columns = {"path": pa.array(["a", "b"]), "label": pa.array(["run", "climb"]).dictionary_encode()}
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert load_annotations(tmp_path / "a.parquet").labels.tolist() == [1, 0]


def write_manifest(folder: Path, status: tuple[str, ...] = ("ok", "failed", "ok")) -> Path:
    columns = {"path": ["a.mp4", "b.mp4", "c.mp4"], "label": [1, 0, 1], "status": status}
    table = pa.table(columns, metadata={"root": "/videos", "class_names": '["climb", "run", "swim"]'})
    parquet.write_table(table, folder / "manifest.parquet")
    return folder / "manifest.parquet"


def test_a_manifest_gives_the_videos_that_are_well(tmp_path: Path) -> None:
    path = write_manifest(tmp_path)
    table = load_annotations(path)
    assert table.paths.to_pylist() == ["a.mp4", "c.mp4"]
    assert table.labels.tolist() == [1, 1]
    assert table.class_names == ("climb", "run", "swim")
    assert table.locate(0) == Path("/videos/a.mp4")
    assert table.index_cache is None
    (tmp_path / "index").mkdir()
    assert load_annotations(path).index_cache == tmp_path / "index"
    assert load_annotations(path, tmp_path).locate(0) == tmp_path / "a.mp4"


def test_a_manifest_of_failures_says_so(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"manifest\.parquet: none of its 3 rows has the status ok"):
        load_annotations(write_manifest(tmp_path, ("failed",) * 3))


def test_numbers_of_a_manifest_follow_the_names_that_are_asked_for(tmp_path: Path) -> None:
    path = write_manifest(tmp_path)
    assert load_annotations(path, class_names=["run", "climb"]).labels.tolist() == [0, 0]
    with pytest.raises(AnnotationError, match="row 1: label 'run' is not one of the 2 classes of class_names"):
        load_annotations(path, class_names=["swim", "climb"])


def load_text(text: str, name: str) -> VideoTable | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8")
        try:
            return load_annotations(path)
        except AnnotationError:
            return None


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1, max_size=8)


@given(st.lists(NAMES.filter(lambda name: name.strip()), min_size=1, max_size=5))
def test_what_the_csv_module_writes_is_read(names: list[str]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("path", "label"), *(("v/" + name, 3) for name in names)])
    table = load_text(text.getvalue(), "list.csv")
    assert table is not None
    assert table.paths.to_pylist() == [f"v/{name}".strip() for name in names]


@given(st.lists(st.text("ab1,\"\t '", min_size=1, max_size=7), min_size=1, max_size=4))
@example(['a, "b"'])
@example(['"a"b,1'])
@example(['a"b"c,1', '"x,y",2'])
@example(['"a""b",1'])
@example(['"a,1', 'b",1'])
def test_lines_of_csv_mean_what_the_csv_module_says(lines: list[str]) -> None:
    fields = [next(csv.reader([line.strip()], skipinitialspace=True)) for line in lines if line.strip()]
    expected = [[field.strip() for field in line] for line in fields]
    table = load_text("path,label\n" + "\n".join(lines), "list.csv")
    is_sound = expected and all(len(line) == 2 and all(line) for line in expected)
    if not is_sound:
        assert table is None
    elif table is not None:  # else names and numbers are mixed
        assert table.paths.to_pylist() == [line[0] for line in expected]
        names = table.class_names
        assert [names[label] if names else str(label) for label in table.labels] == [
            line[1] if names else str(int(line[1])) for line in expected
        ]


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-2, 2**70), st.floats(), st.text(max_size=3), st.just("run"))


@given(
    st.lists(
        st.fixed_dictionaries(
            {"path": NAMES},
            optional={"label": VALUES | st.lists(VALUES, max_size=2), "labels": VALUES, "start": VALUES, "x": VALUES},
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_json_lines_and_an_array_mean_the_same(records: list[dict[str, Any]]) -> None:
    as_lines = load_text("".join(json.dumps(record) + "\n" for record in records), "list.jsonl")
    as_array = load_text(json.dumps(records, indent=1), "list.json")
    assert (as_lines is None) == (as_array is None)
    if as_lines is not None and as_array is not None:
        assert as_lines.paths.to_pylist() == as_array.paths.to_pylist() == [record["path"] for record in records]
        rows = range(len(records))
        assert [as_lines.label_of(row) for row in rows] == [as_array.label_of(row) for row in rows]
        assert [as_lines.span(row) for row in rows] == [as_array.span(row) for row in rows]
        assert as_lines.class_names == as_array.class_names
