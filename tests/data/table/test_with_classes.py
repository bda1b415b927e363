"""`VideoTable.with_classes`: other names for the classes of a table that was read already."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mvit_video.data import VideoTable, load_annotations
from mvit_video.types import AnnotationError


def _labels(table: VideoTable) -> list[int | list[int]]:
    return [table.label_of(row) for row in range(len(table))]


def _load(tmp_path: Path, text: str, name: str = "list.csv") -> VideoTable:
    (tmp_path / name).write_text(text)
    return load_annotations(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "names", "labels"),
    [
        ("path,label\na.mp4,run\nb.mp4,hop\n", ["run", "sit", "hop"], [0, 2]),
        ("path,label\na.mp4,run;hop\nb.mp4,hop\n", ["sit", "run", "hop"], [[1, 2], [2]]),
        ("path,labels\na.mp4,run;hop\nb.mp4,\n", ["hop", "sit", "run"], [[2, 0], []]),
        ("path,label\na.mp4,1\nb.mp4,0\n", ["run", "hop"], [1, 0]),
        ("path,label\na.mp4,-1\nb.mp4,1\n", ["run", "hop"], [-1, 1]),
        ("path,label\na.mp4,run;hop\nb.mp4,sit\n", ["sit", "run;hop"], [1, 0]),
    ],
)
def test_names_number_what_was_read_as_they_would_have_at_first(
    tmp_path: Path, text: str, names: list[str], labels: list
) -> None:
    table = _load(tmp_path, text)
    (tmp_path / "list.csv").unlink()
    named = table.with_classes(names)
    assert named.class_names == tuple(names)
    assert _labels(named) == labels
    (tmp_path / "list.csv").write_text(text)
    assert _labels(load_annotations(tmp_path / "list.csv", class_names=names)) == labels
    if table.is_multilabel == named.is_multilabel:
        assert _labels(table.take(np.array([1])).with_classes(names)) == labels[1:]
    assert _labels(named.with_classes(sorted(names)).with_classes(names)) == labels


def test_a_table_of_numbers_and_names_is_renumbered(tmp_path: Path) -> None:
    table = VideoTable(pa.array(["a", "b", "c"]), np.array([1, -1, 0]), ("run", "hop"), tmp_path)
    assert table.with_classes(["hop", "run"]).labels.tolist() == [0, -1, 1]
    lists = pa.array([[1, 0], [], [0]], pa.list_(pa.int64()))
    table = VideoTable(pa.array(["a", "b", "c"]), np.full(3, -1), ("run", "hop"), tmp_path, multi_labels=lists)
    assert _labels(table.with_classes(["hop", "sit", "run"])) == [[0, 2], [], [2]]
    single = VideoTable(pa.array(["a", "b"]), np.array([1, 0]), ("run", "hop"), tmp_path).as_multilabel()
    assert _labels(single.with_classes(["hop", "run"])) == [[0], [1]]


def test_a_label_without_a_number_is_named_with_its_video(tmp_path: Path) -> None:
    table = _load(tmp_path, "path,label\na.mp4,run\nb.mp4,hop\n")
    with pytest.raises(AnnotationError, match=r"b\.mp4: label 'hop' is not one of the 1 classes of run\.ckpt; nearest"):
        table.with_classes(["run"], "run.ckpt")
    table = _load(tmp_path, "path,label\na.mp4,0\nb.mp4,2\n")
    with pytest.raises(AnnotationError, match=r"b\.mp4: label 2 has no name; class_names has 2 classes"):
        table.with_classes(["run", "hop"])
    with pytest.raises(
        AnnotationError, match=r"b\.mp4: label 2 may be class 2 \('10'\) or the name of class 3 \('2'\)"
    ):
        table.with_classes(["0", "1", "10", "2"])


def test_a_table_without_labels_keeps_its_videos(tmp_path: Path) -> None:
    table = _load(tmp_path, "path,label\na.mp4,run;hop\nb.mp4,hop\n").without_labels(["sit"])
    assert (_labels(table), table.class_names, table.is_unlabelled) == ([-1, -1], ("sit",), True)
    assert _labels(table.with_classes(["run", "hop"])) == [-1, -1]
