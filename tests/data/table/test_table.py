import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mvit_video.data import VideoTable, load_annotations

NUM_VIDEOS = 1_000_000


class Numbers:
    """An archive whose files are their rows."""

    def read(self, row: int) -> bytes:
        return b"%d" % row


def test_a_table_tells_what_to_open_and_how_much_of_it(tmp_path: Path) -> None:
    spans = np.array([[0.5, 2.0], [np.nan, np.nan]])
    table = VideoTable(pa.array(["a.mp4", "/b.mp4"]), np.array([2, -1]), None, tmp_path, spans=spans)
    assert (len(table), table.num_classes, table.is_multilabel) == (2, 3, False)
    assert [table.label_of(row) for row in range(2)] == [2, -1]
    assert [table.source(row) for row in range(2)] == [tmp_path / "a.mp4", Path("/b.mp4")]
    assert [table.span(row) for row in range(2)] == [(0.5, 2.0), None]
    assert repr(table) == f"VideoTable(2 videos, 3 classes, root={str(tmp_path)!r})"


def test_an_archive_gives_bytes(tmp_path: Path) -> None:
    table = VideoTable(pa.array(["a", "b"]), np.array([0, 1]), ("run", "climb"), tmp_path, archive=Numbers())
    assert table.source(1) == b"1"
    assert table.num_classes == 2


def test_several_labels_come_as_lists(tmp_path: Path) -> None:
    labels = pa.array([[3, 0], []], pa.list_(pa.int64()))
    table = VideoTable(pa.array(["a", "b"]), np.array([-1, -1]), None, tmp_path, multi_labels=labels)
    assert [table.label_of(row) for row in range(2)] == [[3, 0], []]
    assert table.num_classes == 4
    nothing = VideoTable(pa.array(["a"]), np.array([-1]), None, tmp_path, multi_labels=labels[1:])
    assert nothing.num_classes == 0


def test_columns_have_one_length(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 paths against 1"):
        VideoTable(pa.array(["a", "b"]), np.array([0]), None, tmp_path)


def test_a_table_travels_to_workers(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,labels,start,end\na,1;2,0,1\nb,,,\n")
    table = load_annotations(tmp_path / "list.csv")
    twin = pickle.loads(pickle.dumps(table))
    assert [twin.path(row) for row in range(2)] == ["a", "b"]
    assert [twin.label_of(row) for row in range(2)] == [[1, 2], []]
    assert [twin.span(row) for row in range(2)] == [(0.0, 1.0), None]


LINES: dict[str, Callable[[int], str]] = {
    "list.txt": lambda i: f"train/riding a bike/video_{i:09d}_000010_000020.mp4 {i % 400}",
    "list.csv": lambda i: (
        f'"train/riding a bike/video_{i:09d}_000010_000020.mp4",class {i % 400},{i % 50},{i % 50 + 10}'
    ),
}
HEADERS = {"list.txt": "", "list.csv": "path,label,start,end\n"}


@pytest.mark.parametrize("name", LINES)
def test_a_million_videos_are_columns_and_no_objects(name: str, tmp_path: Path) -> None:
    path, line = tmp_path / name, LINES[name]
    with path.open("w") as file:
        file.write(HEADERS[name])
        file.writelines(f"{line(i)}\n" for i in range(NUM_VIDEOS))
    num_objects, seconds = sys.getallocatedblocks(), time.process_time()
    table = load_annotations(path)
    seconds, num_objects = time.process_time() - seconds, sys.getallocatedblocks() - num_objects
    num_bytes = len(pickle.dumps(table))
    print(
        f"{name}: {NUM_VIDEOS} videos in {seconds:.2f} s of one core, {num_bytes / 1e6:.0f} MB, {num_objects} objects"
    )
    assert table.path(NUM_VIDEOS - 1) == f"train/riding a bike/video_{NUM_VIDEOS - 1:09d}_000010_000020.mp4"
    assert table.num_classes == 400
    assert num_objects < 20_000
    assert num_bytes < 100e6
