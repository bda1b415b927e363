"""Which videos the sources of an extraction name, and their labels."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from mvit_video.data import load_annotations
from mvit_video.features.inputs import find_inputs
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import AnnotationError

PATHS = ["a b.mp4", "c,d.MKV"]


def write_text(text: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_text(text)
        return path

    return write


def write_parquet(path: Path) -> Path:
    parquet.write_table(pa.table({"path": PATHS}), path)
    return path


LISTS = {
    "list.txt": write_text("# two videos\na b.mp4\nc,d.MKV\n"),
    "quoted.txt": write_text("'a b.mp4'\n\"c,d.MKV\"\n"),
    "column.csv": write_text('path\na b.mp4\n"c,d.MKV"\n'),
    "columns.csv": write_text('path,fps\na b.mp4,30\n"c,d.MKV",25\n'),
    "bare.csv": write_text("a b.mp4\nc,d.MKV\n"),
    "list.jsonl": write_text("".join(json.dumps({"path": path}) + "\n" for path in PATHS)),
    "array.json": write_text(json.dumps(PATHS)),
    "a.parquet": write_parquet,
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_bare_paths_is_enough(name: str, tmp_path: Path) -> None:
    source = LISTS[name](tmp_path / name)
    inputs = find_inputs([str(source)])
    assert [inputs.video(i).source for i in range(2)] == [tmp_path / path for path in PATHS]
    assert [inputs.video(i).label for i in range(2)] == [None, None]
    (tmp_path / "train.csv").write_text("path,label\na b.mp4,run\n")
    data = VideoDataModule(train=str(tmp_path / "train.csv"), predict=str(source))
    data.setup("predict")
    assert data.tables["predict"].paths.to_pylist() == PATHS
    assert (data.tables["predict"].labels.tolist(), data.class_names) == ([-1, -1], ("run",))
    with pytest.raises(AnnotationError):  # training needs labels
        load_annotations(source)


def test_a_list_with_and_without_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.mp4 3\nb.mp4\n")
    with pytest.raises(AnnotationError, match=r"list\.txt:2: expected `path label`, got 'b\.mp4'"):
        find_inputs([str(tmp_path / "list.txt")])
    (tmp_path / "list.txt").write_text("a.mp4\nb\n")
    with pytest.raises(AnnotationError, match=r"list\.txt:2: expected the path of a video, .* got 'b'"):
        find_inputs([str(tmp_path / "list.txt")])


def test_labels_that_differ_for_one_video_are_dropped_with_a_warning(tmp_path: Path) -> None:
    rows = ["a.mp4,run,0,5", "a.mp4,hop,0,5", "a.mp4,hop,5,9", "b.mp4,hop,,", "b.mp4,hop,,"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,start,end", *rows]))
    with pytest.warns(UserWarning, match=r"1 video is listed with different labels .* a\.mp4.* \(hop, run\); give"):
        inputs = find_inputs([str(tmp_path / "list.csv")])
    assert [inputs.video(i).label for i in range(3)] == [None, 0, 0]


def test_a_label_is_taken_from_the_source_that_has_one(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "list.csv").write_text(f"path,label\n{tmp_path / 'a.mp4'},run\n")
    inputs = find_inputs([str(tmp_path / "a.mp4"), str(tmp_path / "list.csv")])
    assert (len(inputs), inputs.video(0).label, inputs.class_names) == (1, 0, ("run",))
