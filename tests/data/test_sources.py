"""`find_videos`: which videos a user means by annotations, a folder, a file."""

import os
from pathlib import Path

import pytest

from mvit_video.data import VideoTable, find_videos
from mvit_video.types import AnnotationError
from tests.fixtures.data import Touch, Write


def known(table: VideoTable) -> list[tuple[str, int | list[int]]]:
    return [(table.path(row), table.label_of(row)) for row in range(len(table))]


def test_folders_of_classes_have_labels_and_others_have_not(touch: Touch) -> None:
    folder = touch("cooking/a.mp4", "running/b.mp4")
    for labels in ("required", "optional"):
        table = find_videos(str(folder), labels=labels)
        assert known(table) == [("cooking/a.mp4", 0), ("running/b.mp4", 1)]
        assert (table.class_names, table.unlabelled_because) == (("cooking", "running"), "")
    touch("c.mp4", ".hidden.mp4")
    table = find_videos(str(folder), labels="optional")
    assert known(table) == [("c.mp4", -1), ("cooking/a.mp4", -1), ("running/b.mp4", -1)]
    assert table.unlabelled_because == "the folder has videos rather than one folder per class"
    with pytest.warns(UserWarning, match="ignoring videos that are not in a class folder"):
        assert len(find_videos(str(folder))) == 2


def test_why_a_folder_has_no_labels(touch: Touch) -> None:
    folder = touch("train/run/a.mp4", "val/run/b.mp4")
    table = find_videos(str(folder), labels="optional")
    assert known(table) == [("train/run/a.mp4", -1), ("val/run/b.mp4", -1)]
    assert table.unlabelled_because.startswith("has 'train', which looks like a split")
    with pytest.raises(AnnotationError, match="looks like a split"):
        find_videos(str(folder))
    table = find_videos(str(touch("run/a.mp4", folder="named")), labels="optional", class_names=["sit"])
    assert table.unlabelled_because.startswith("label 'run' is not one of the 1 classes")


def test_annotations_give_their_labels_and_lists_of_paths_none(write: Write) -> None:
    labelled, bare = str(write("a.mp4 3\nb.mp4 0\n")), str(write("a.mp4\nb.mp4\n", "bare.txt"))
    assert (
        known(find_videos(labelled)) == known(find_videos(labelled, labels="optional")) == [("a.mp4", 3), ("b.mp4", 0)]
    )
    assert known(find_videos(bare, labels="optional")) == [("a.mp4", -1), ("b.mp4", -1)]
    with pytest.raises(AnnotationError, match=r"bare\.txt:1: expected `path label`"):
        find_videos(bare)
    named = find_videos(str(write("a.mp4,run\n", "named.csv")), labels="optional", class_names=["hop", "run"])
    assert known(named) == [("a.mp4", 1)]


def test_a_video_means_itself(touch: Touch) -> None:
    video = str(touch("a.mp4") / "a.mp4")
    table = find_videos(video, labels="optional")
    assert known(table) == [(video, -1)]
    assert table.locate(0) == Path(video)
    with pytest.raises(AnnotationError):
        find_videos(video)


def test_what_names_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.bin").write_bytes(b".RMF\0\0\0\x12")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("gone", "no such file or folder"),
        ("empty", r"has no videos \(\.264 "),
        ("notes.bin", "is not annotations .*, and does not have the suffix of a video"),
    ):
        with pytest.raises(AnnotationError, match=rf"{name}: {message}"):
            find_videos(str(tmp_path / name), labels="optional")


def test_a_name_that_is_no_utf8_is_kept_as_a_missing_video(touch: Touch) -> None:
    folder = touch("a.mp4")
    with open(os.fsencode(folder) + b"/\xff.mp4", "wb"):
        pass
    assert known(find_videos(str(folder), labels="optional")) == [("a.mp4", -1), ("\\xff.mp4", -1)]
