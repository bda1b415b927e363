from pathlib import Path

import pytest

from mvit_video.data import find_videos, load_annotations
from mvit_video.data.table.files import VIDEO_SUFFIXES, videos_below
from mvit_video.types import AnnotationError
from tests.fixtures.data import Touch, Write
from tests.fixtures.places import ROOT


def test_folder_of_classes(tmp_path: Path) -> None:
    for name in [
        "run/b.mp4",
        "run/a.AVI",
        "run/notes.dat",
        "run/notes.txt",
        "climb/c d.mkv",
        ".cache/x.mp4",
        "run/.hidden.mp4",
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match=r": ignoring files without the suffix of a video: run/notes\.dat$"):
        table = load_annotations(tmp_path)
    assert table.paths.to_pylist() == ["climb/c d.mkv", "run/a.AVI", "run/b.mp4"]
    assert table.labels.tolist() == [0, 1, 1]
    assert table.class_names == ("climb", "run")
    assert table.locate(0) == tmp_path / "climb" / "c d.mkv"


def test_every_suffix_that_the_reader_reads(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    names = [f"run/{i:03d}{suffix}" for i, suffix in enumerate(sorted(VIDEO_SUFFIXES))]
    names += [f"run/{i:03d}{suffix.upper()}" for i, suffix in enumerate(sorted(VIDEO_SUFFIXES), len(names))]
    for name in names:
        (tmp_path / name).touch()
    assert load_annotations(tmp_path).paths.to_pylist() == names
    assert find_videos(str(tmp_path), labels="optional").paths.to_pylist() == names
    (tmp_path / "list.txt").write_text("".join(f"{name} 1\n" for name in names))
    assert load_annotations(tmp_path / "list.txt").paths.to_pylist() == names


def test_what_is_no_video_is_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("a.mp4", "b.dat", "c.xyz", "d", "e.wav"):
        (tmp_path / "run" / name).touch()
    told = r": ignoring files without the suffix of a video: run/b\.dat, run/c\.xyz, run/d and 1 more$"
    for read in (load_annotations, videos_below):
        with pytest.warns(UserWarning, match=told):
            assert len(read(tmp_path)) == 1


def test_other_files_beside_class_folders_are_counted_and_named(touch: Touch) -> None:
    folder = touch("run/a.mp4", "climb/b.mp4", "c.dat", "notes.txt")
    with pytest.warns(UserWarning, match=r": ignoring files without the suffix of a video: c\.dat$"):
        assert len(load_annotations(folder)) == 2


def test_the_error_about_a_class_without_videos_names_its_files(touch: Touch) -> None:
    folder = touch("run/a.mp4", "climb/b.dat", "climb/c.dat")
    with pytest.raises(AnnotationError, match=r"climb: has no videos \(2 other files, the first is b\.dat\); remove"):
        load_annotations(folder)


def test_folders_without_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="has no folder with videos"):
        load_annotations(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "climb").mkdir()
    (tmp_path / "run" / "a.mp4").touch()
    with pytest.raises(AnnotationError, match="climb: has no videos"):
        load_annotations(tmp_path)


def test_videos_below_a_class_folder_belong_to_the_class(touch: Touch) -> None:
    root = touch("run/monday/a.mp4", "run/b.mp4", "climb/x/y/z/c.mp4", "climb/.hidden/d.mp4")
    (root / "climb" / "loop").symlink_to(root)
    (root / "climb" / "elsewhere").symlink_to(touch("e.mp4", folder="others"))
    table = load_annotations(root)
    assert table.paths.to_pylist() == ["climb/elsewhere/e.mp4", "climb/x/y/z/c.mp4", "run/b.mp4", "run/monday/a.mp4"]
    assert table.labels.tolist() == [0, 0, 1, 1]
    assert table.locate(0).is_file()


def test_videos_beside_class_folders_are_counted_and_named(touch: Touch) -> None:
    root = touch("run/a.mp4", "b.mp4", "c.mp4", "notes.txt")
    with pytest.warns(UserWarning, match=r"ignoring videos that are not in a class folder: b\.mp4, c\.mp4$"):
        assert len(load_annotations(root)) == 1


@pytest.mark.parametrize("name", ["train", "Validation", "testing"])
def test_a_folder_of_splits_is_no_folder_of_classes(touch: Touch, name: str) -> None:
    with pytest.raises(AnnotationError, match=rf"has '{name}', which looks like a split .* give .*videos/{name}, or"):
        load_annotations(touch(f"{name}/run/a.mp4", "other/run/b.mp4"))
    assert load_annotations(touch(f"{name}/a.mp4", "car/b.mp4", folder="classes")).num_classes == 2


def test_classes_one_folder_deeper_are_refused(touch: Touch) -> None:
    with pytest.raises(AnnotationError, match=r"has one folder, 'UCF', .* give .*videos/UCF if these are the classes"):
        load_annotations(touch("UCF/run/a.mp4", "UCF/climb/b.mp4"))


def test_a_name_that_looks_like_a_number_is_a_name(touch: Touch) -> None:
    table = load_annotations(touch("10/a.mp4", "9/b.mp4"))
    assert table.class_names == ("10", "9")
    assert table.labels.tolist() == [0, 1]


@pytest.mark.parametrize("place", ["videos/classes.txt", "classes.txt"])
def test_a_file_of_classes_numbers_the_folders(touch: Touch, write: Write, place: str) -> None:
    root = touch("run/a.mp4", "climb/b.mp4")
    write("run\nswim\nclimb\n", place)
    table = load_annotations(root)
    assert table.class_names == ("run", "swim", "climb")
    assert table.label_of(0) == 2


def test_a_folder_that_is_no_class_is_refused(touch: Touch) -> None:
    with pytest.raises(
        AnnotationError, match=r"videos: label 'climbs' is not one of the 2 classes .* nearest is 'climb'"
    ):
        load_annotations(touch("run/a.mp4", "climbs/b.mp4"), class_names=["climb", "run"])


def test_a_video_whose_name_is_no_text_is_named(touch: Touch) -> None:
    root = touch("run/a.mp4")
    try:
        (root / "run" / "b\udcff.mp4").touch()
    except OSError:
        pytest.skip("this file system takes text only")
    with pytest.raises(AnnotationError, match=r"run: has a video whose name is not UTF-8: b'b\\xff.mp4'"):
        load_annotations(root)


def test_the_documented_suffixes_are_those_of_the_reader() -> None:
    text = " ".join((ROOT / "docs/reference/annotations.md").read_text().split())
    assert " ".join(sorted(VIDEO_SUFFIXES)) in text
