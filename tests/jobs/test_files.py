"""Files are complete or absent, reach the disk, and leave nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mvit_video.jobs import atomic_write, fitting_name, remove_unfinished, scratch_folder
from mvit_video.jobs.files import _remove_unfinished_once


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    def write_and_fail(path: Path) -> None:
        with atomic_write(path) as unfinished:
            unfinished.write_text("half")
            raise ZeroDivisionError

    file = tmp_path / "folder" / "file"
    with pytest.raises(ZeroDivisionError):
        write_and_fail(file)
    assert names(file.parent) == []
    with atomic_write(file) as unfinished:
        unfinished.write_text("complete")
    with pytest.raises(ZeroDivisionError):
        write_and_fail(file)
    assert names(file.parent) == ["file"]
    assert file.read_text() == "complete"


def test_the_file_that_is_replaced_is_kept_where_asked(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with atomic_write(tmp_path / "file", backup=tmp_path / "before") as unfinished:
            unfinished.write_text(text)
    assert ((tmp_path / "file").read_text(), (tmp_path / "before").read_text()) == ("two", "one")


def test_file_and_folder_reach_the_disk_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, int]] = []
    sync, move = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: events.append(("flush", os.fstat(file).st_ino)) or sync(file))
    monkeypatch.setattr(os, "replace", lambda *paths: events.append(("move", os.stat(paths[0]).st_ino)) or move(*paths))
    with atomic_write(tmp_path / "file") as unfinished:
        unfinished.write_text("text")
    file, folder = (tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino
    assert events == [("flush", file), ("move", file), ("flush", folder)]


@pytest.mark.parametrize("name", ["x" * 255, "\N{HIRAGANA LETTER A}" * 85])
def test_any_name_that_the_file_system_takes_can_be_written(tmp_path: Path, name: str) -> None:
    with atomic_write(tmp_path / name) as unfinished:
        unfinished.write_text("text")
    assert names(tmp_path) == [name]


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from mvit_video.jobs import atomic_write\n"
        "with atomic_write(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, f"{tmp_path}/killed"], check=False)
    (left,) = names(tmp_path)
    assert left.startswith(".killed.")
    (tmp_path / ".notes").write_text("of the user")
    (tmp_path / ".link.unfinished").symlink_to(tmp_path / ".notes")
    with atomic_write(tmp_path / "file") as unfinished:  # the first write of this process to the folder
        assert left not in names(tmp_path)
        remove_unfinished(tmp_path)
        unfinished.write_text("still there")
    assert names(tmp_path) == [".link.unfinished", ".notes", "file"]
    assert (tmp_path / ".notes").read_text() == "of the user"


def test_a_folder_is_listed_once_however_many_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _remove_unfinished_once.cache_clear()
    listed = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scan(folder))
    for number in range(5):
        with atomic_write(tmp_path / f"{number}"):
            pass
    assert listed == [tmp_path]


def test_a_link_in_the_place_of_a_file_is_replaced_and_its_target_untouched(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("of the user")
    (tmp_path / "file").symlink_to(tmp_path / "target")
    with atomic_write(tmp_path / "file") as unfinished:
        unfinished.write_text("ours")
    assert (tmp_path / "target").read_text() == "of the user"
    assert (tmp_path / "file").read_text() == "ours"


def test_scratch_folders_go_at_the_end_and_after_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from mvit_video.jobs import scratch_folder\n"
        "with scratch_folder(pathlib.Path(sys.argv[1]), 'work') as folder:\n"
        "    (folder / 'file').touch(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, f"{tmp_path}"], check=False)
    (left,) = names(tmp_path)
    with scratch_folder(tmp_path, "work") as folder:
        (folder / "file").touch()
        remove_unfinished(tmp_path)
        assert names(tmp_path) == [folder.name] != [left]
    assert names(tmp_path) == []


def test_names_that_are_too_long_are_cut_and_stay_apart() -> None:
    assert fitting_name("short", ".npy") == "short.npy"
    assert fitting_name("x" * 251, ".npy") == "x" * 251 + ".npy"
    one, other = (fitting_name("\N{HIRAGANA LETTER A}" * 90 + letter, ".npy") for letter in "ab")
    assert one != other
    assert 250 < len(os.fsencode(one)) <= 255
    assert one.endswith(".npy")
