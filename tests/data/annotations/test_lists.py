import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data import load_annotations
from mvit_video.types import AnnotationError
from tests.fixtures.data import Write


@pytest.mark.parametrize(
    ("text", "name", "paths"),
    [
        ("a.mp4 3\nb.mp4 0\n", "list.txt", ["a.mp4", "b.mp4"]),
        ("a.mp4\t3\nb.mp4\t0", "list.tsv", ["a.mp4", "b.mp4"]),
        ("a.mp4,3\nb.mp4,0\n", "list.txt", ["a.mp4", "b.mp4"]),
        ("a b, c.mp4 3\nd e/f.mp4 0\n", "list.txt", ["a b, c.mp4", "d e/f.mp4"]),
        ("my clip.mp4, 3\nb.mp4, 0\n", "list.txt", ["my clip.mp4", "b.mp4"]),
        ("path,label\na.mp4,3\nb.mp4,0\n", "list.csv", ["a.mp4", "b.mp4"]),
        ("path,label\na.mp4,3\nb.mp4,0\n", "list.txt", ["a.mp4", "b.mp4"]),
        ('"a, b.mp4",3\nb.mp4,0\n', "list.csv", ["a, b.mp4", "b.mp4"]),
        ("a.mp4 3\nb.mp4 0\n", "train.csv", ["a.mp4", "b.mp4"]),
        ("a.mp4\t3\nb.mp4\t0\n", "train.csv", ["a.mp4", "b.mp4"]),
        ("a b.mp4 3\nc,d.mp4 0\n", "train.csv", ["a b.mp4", "c,d.mp4"]),
        ("c,d.mp4 3\na b.mp4 0\n", "train.csv", ["c,d.mp4", "a b.mp4"]),
        ('path\tlabel\na.mp4\t3\n"b"\t0\n', "list.tsv", ["a.mp4", "b"]),
        ("a.mp4 3\rb.mp4 0\r", "list.txt", ["a.mp4", "b.mp4"]),
        ('path,label\na.mp4,3\n "b, c.mp4", "0"\n', "list.csv", ["a.mp4", "b, c.mp4"]),
        ("# made by hand\na.mp4 3\nb.mp4 0\n", "train.csv", ["a.mp4", "b.mp4"]),
        ("label,path\n3,a.mp4\n0,b.mp4\n", "list.csv", ["a.mp4", "b.mp4"]),
        ("Path, Label, split\na.mp4,3,train\nb.mp4,0,\n", "list.csv", ["a.mp4", "b.mp4"]),
        (",path,label\n0,a.mp4,3\n1,b.mp4,0\n", "list.txt", ["a.mp4", "b.mp4"]),
        ("path,label\n#a.mp4,3\n#b.mp4,0\n", "list.csv", ["#a.mp4", "#b.mp4"]),
        ("#a.mp4,3\nb.mp4,0\n", "list.csv", ["#a.mp4", "b.mp4"]),
        ("# made by hand\npath,label\n#a.mp4,3\nb.mp4,0\n", "list.txt", ["#a.mp4", "b.mp4"]),
        ("\"a, b.mp4\" 3\n'c d.mp4', 0\n", "list.txt", ["a, b.mp4", "c d.mp4"]),
        ('"#a.mp4" 3\n"b\'s.mp4"\t0\n', "list.txt", ["#a.mp4", "b's.mp4"]),
        ("\ufeff# made by hand\r\n\r\na.mp4 3\r\n  b.mp4   0  \r\n", "list.txt", ["a.mp4", "b.mp4"]),
    ],
)
def test_numbered_labels(write: Write, text: str, name: str, paths: list[str]) -> None:
    table = load_annotations(write(text, name))
    assert table.paths.to_pylist() == paths
    assert table.labels.tolist() == [3, 0]
    assert table.labels.dtype == "int64"
    assert table.class_names is None
    assert table.num_classes == 4


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a.mp4 run\nb.mp4 climb\nc.mp4 run\n", "list.txt"),
        ("a.mp4,run\nb.mp4,climb\nc.mp4,run\n", "list.csv"),
        ("a.mp4\trun\nb.mp4\tclimb\nc.mp4\trun\n", "list.txt"),
    ],
)
def test_named_labels_are_numbered_in_sorted_order(write: Write, text: str, name: str) -> None:
    table = load_annotations(write(text, name))
    assert table.class_names == ("climb", "run")
    assert table.labels.tolist() == [1, 0, 1]


def test_class_names_may_hold_spaces(write: Write) -> None:
    table = load_annotations(write("a.mp4,riding a bike\nb b.mp4,air drumming\n"))
    assert table.class_names == ("air drumming", "riding a bike")
    assert table.paths.to_pylist() == ["a.mp4", "b b.mp4"]


@pytest.mark.parametrize("text", ["a.mp4\tclass 10\nb\tclass 2\n", '"a.mp4" class 10\n"b" class 2\n'])
def test_class_names_may_end_in_a_number(write: Write, text: str) -> None:
    table = load_annotations(write(text))
    assert table.class_names == ("class 10", "class 2")
    assert table.paths.to_pylist() == ["a.mp4", "b"]


SEVERAL = ["a.mp4 3,17,20\nb c.mp4 5\n", "a.mp4\t3,17,20\nb c.mp4\t5\n", '"a.mp4" 3,17,20\n"b c.mp4" 5\n']


@pytest.mark.parametrize("text", SEVERAL)
def test_numbers_joined_by_commas_are_several_labels(write: Write, text: str) -> None:
    table = load_annotations(write(text))
    assert table.paths.to_pylist() == ["a.mp4", "b c.mp4"]
    assert [table.label_of(0), table.label_of(1)] == [[3, 17, 20], [5]]
    assert table.is_multilabel
    assert table.num_classes == 21
    assert table.labels.tolist() == [-1, -1]


@pytest.mark.parametrize("text", ["a b.mp4 [0, 2]\nc.mp4 1\n", "a b.mp4, ['0','2']\nc.mp4, [1]\n"])
def test_a_list_in_brackets_is_several_labels(write: Write, text: str) -> None:
    table = load_annotations(write(text))
    assert table.paths.to_pylist() == ["a b.mp4", "c.mp4"]
    assert [table.label_of(0), table.label_of(1)] == [[0, 2], [1]]


def test_relative_paths_start_from_the_file_or_the_root(write: Write, tmp_path: Path) -> None:
    path = write("a.mp4 0\n")
    assert load_annotations(path).locate(0) == tmp_path / "a.mp4"
    assert load_annotations(path, tmp_path / "videos").locate(0) == tmp_path / "videos" / "a.mp4"


@pytest.mark.parametrize(
    ("text", "name", "line", "reason"),
    [
        ("", "list.txt", 0, "has no videos"),
        ("# nothing\n\n", "list.txt", 0, "has no videos"),
        ("path,label\n", "list.csv", 0, "has no videos"),
        ("a.mp4 0\nb.mp4\n", "list.txt", 2, "got 'b.mp4'"),
        ("a.mp4 0\n\n5\n", "list.txt", 3, "got '5'"),
        ("a.mp4,0,1\n", "list.csv", 1, "got 'a.mp4,0,1'"),
        ("a.mp4,\n", "list.csv", 1, "got 'a.mp4,'"),
        ("a.mp4,0\nb.mp4 0\n", "list.csv", 2, "expected `path,label`, got 'b.mp4 0'"),
        ("path,label,split\na.mp4,0\n", "list.csv", 2, "expected `path,label,split`, got 'a.mp4,0'"),
        ("label,youtube_id,split\n0,a,train\n", "list.csv", 1, "header 'label,youtube_id,split' has no column 'path'"),
        ("path,class\na.mp4,run\n", "list.csv", 1, "header 'path,class' has no column 'label'"),
        ("video,class\na.mp4,run\n", "list.csv", 1, "header 'video,class' has no column 'path'"),
        ("a.mp4 riding a bike\n", "list.txt", 1, "'a.mp4 riding a bike'; put a tab before the label, or write CSV"),
        ("a.mp4 0\nb.mp4 class 10\n", "list.txt", 2, "does not end clearly in 'b.mp4 class 10'"),
        ("a.mp4 0 5\nb.mp4 1\n", "list.txt", 1, "does not end clearly in 'a.mp4 0 5'"),
        ("a.mp4,class 10\n", "list.txt", 1, "does not end clearly in 'a.mp4,class 10'"),
        ("a.mp4 0\nb.mp4 run\n", "list.txt", 2, "label 'run' mixes .* first is '0'"),
        ("a.mp4 -2\n", "list.txt", 1, "label -2 is out of range"),
        ("a.mp4 99999999999999999999\n", "list.txt", 1, "label 99999999999999999999"),
        ("a.mp4 0\n../b.mp4 1\n", "list.txt", 2, r"'\.\./b\.mp4' is outside the root"),
        ("a/../../b.mp4 1\n", "list.txt", 1, "is outside the root"),
    ],
)
def test_problems_name_the_line_and_the_value(write: Write, text: str, name: str, line: int, reason: str) -> None:
    path = write(text, name)
    with pytest.raises(AnnotationError, match=reason) as caught:
        load_annotations(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"nowhere\.txt: no such annotation file or folder$"):
        load_annotations(tmp_path / "nowhere.txt")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(range(256)), "byte 0 is zero"),
        (b"a.mp4 0\n" * 1000 + b"\0", "byte 8000 is zero"),
        (b"a.mp4 0\n\xff.mp4 1\n", "byte 8 is not UTF-8"),
        (b"a.mp4 0\nb.mp4 \xc3", "byte 14 is not UTF-8"),
    ],
)
def test_a_video_is_no_annotation_file(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(AnnotationError, match=f"not a text file .{reason}"):
        load_annotations(tmp_path / "a.mp4")


NAMES = st.text(st.characters(categories=["L", "N"], include_characters=" _-."), min_size=1, max_size=12)


@given(st.lists(st.tuples(NAMES, st.integers(0, 999)), min_size=1, max_size=8), st.sampled_from([" ", "\t", ","]))
def test_what_is_written_is_read(rows: list[tuple[str, int]], separator: str) -> None:
    rows = [(f"v{name.strip()}.mp4", label) for name, label in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"
        path.write_text("".join(f"{name}{separator}{label}\n" for name, label in rows), encoding="utf-8")
        table = load_annotations(path)
    assert list(zip(table.paths.to_pylist(), table.labels.tolist(), strict=True)) == rows


WORDS = ["a.mp4", "b", "c,d", '"', "'", "#x", "3", "-1", "12,5", "run", " ", "  ", ",", "\t", "é.webm"]


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map("".join), min_size=1, max_size=4))
def test_columns_are_split_as_lines_would_be(lines: list[str]) -> None:
    """A line means the same alone and among others."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"

        def load(text: str) -> list[tuple[str, object]] | None:
            path.write_text(text, encoding="utf-8")
            try:
                table = load_annotations(path)
            except AnnotationError:
                return None
            names = table.class_names
            labels = [table.label_of(row) for row in range(len(table))]
            named = [label if names is None or isinstance(label, list) else names[label] for label in labels]
            return list(zip(table.paths.to_pylist(), named, strict=True))

        alone = [load(line) for line in lines]
        together = load("\n".join(lines))
    if together is not None:
        several = any(isinstance(label, list) for _, label in together)
        found = [row for rows in alone if rows is not None for row in rows]
        assert together == [
            (path, [label] if several and not isinstance(label, list) else label) for path, label in found
        ]
