"""The verb extract: what it is given, what it says, how it ends."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet

from mvit_video.cli import main
from mvit_video.features.inputs import find_inputs
from mvit_video.types import AnnotationError, ConfigError
from tests.fixtures.features import NumListed


def test_a_corrupt_video_is_listed_with_its_reason_and_the_exit_code_says_so(
    tiny_checkpoint: Path,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(digits / "val", videos)
    (videos / "broken.mp4").write_bytes(b"no video " * 100)
    words = ["extract", str(videos), "--model", str(tiny_checkpoint), "--out", str(tmp_path / "out"), "--stride", "16"]
    assert main(words) == 1
    printed = capsys.readouterr().out
    assert "sampling rate and activation are not in the file; assumed as published for clips: " in caplog.text
    assert "mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225), 4x4, softmax" in caplog.text
    assert "8 of 9 videos extracted (16 windows in " in printed
    assert "1 failed; the same command tries them again\n" in printed
    rows = {row["path"]: row for row in parquet.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()}
    assert len(rows) == 9
    assert {row["status"] for path, row in rows.items() if "broken" not in path} == {"ok"}
    broken = rows[str(videos / "broken.mp4")]
    assert (broken["status"], broken["num_windows"]) == ("failed", 0)
    assert broken["reason"].startswith("cannot be decoded")
    (videos / "broken.mp4").unlink()
    assert main(words) == 0
    assert "0 of 8 videos extracted (0 windows in" in (printed := capsys.readouterr().out)
    assert ", 8 had features already\n" in printed


def test_mistakes_are_told_in_one_line(
    tiny_checkpoint: Path,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "text.txt").touch()
    (tmp_path / "notes.mp4").mkdir()
    model, out = ["--model", str(tiny_checkpoint)], ["--out", str(tmp_path / "out")]
    (tmp_path / "file").touch()
    (tmp_path / "notes.bin").write_bytes(b".RMF\0\0\0\x12")
    monkeypatch.chdir(tmp_path)
    Path("-abc.mp4").touch()
    for words, told in (
        (
            ["notes.bin", *model, *out],
            "INPUT notes.bin: is not annotations (text or Parquet), and does not have the suf",
        ),
        (
            ["-abc.mp4", *model, *out],
            "-abc.mp4 is taken for an option, since it begins with -; give the file",
        ),
        (["gone.mp4", *model, *out], "INPUT gone.mp4: no such file or folder"),
        ([f"{tmp_path}/empty", *model, *out], f"INPUT {tmp_path}/empty: has no videos (.264 "),
        (["no/*.mp4", *model, *out], "INPUT no/*.mp4: no video and no folder matches the pattern"),
        ([f"{tmp_path}/empty/*", *model, *out], "matches the pattern; of 1 others none ends in .264 "),
        (
            [str(digits), "--model", "mvit_c", *out],
            "--model mvit_c: neither a file nor a name of a model; did you mean ",
        ),
        ([str(digits), *model, "--out", f"{tmp_path}/file/out"], f"--out {tmp_path}/file"),
        ([str(digits), *model, *out, "--window", "1h"], "--window 1h: expected frames such as 64, or "),
        (
            [str(digits), *model, *out, "--address", "head:1"],
            "--address head:1 is a cluster for --engine ray; add that",
        ),
        ([str(digits), *model, *out, "--strides", "1"], "--strides: there is no such option; did you mean --stride?"),
    ):
        assert main(["extract", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert told in error


def test_sources_name_each_video_once_with_what_is_known_of_it(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(digits)
    annotated = find_inputs(["val.csv"])
    assert [annotated.video(i).label for i in range(8)] == [0, 1, 2, 3] * 2
    assert annotated.video(0).path == annotated.names[0].as_py() == "val/clockwise_1/val_00000.mp4"
    labelled = find_inputs(["val"])
    assert sorted(labelled.names.to_pylist()) == sorted(annotated.names.to_pylist())
    assert sorted(str(labelled.video(i).label) for i in range(8)) == list("00112233")
    assert labelled.class_names == annotated.class_names
    assert len(find_inputs(["val", "val/*/*.mp4", "val/clockwise_1"])) == 8
    by_pattern = find_inputs(["val/**/*.mp4"])
    assert len(by_pattern) == 8
    assert by_pattern.video(0).label is None
    # a video outside of the folders of classes would be lost, so there are no labels then
    shutil.copytree("val", tmp_path / "mixed")
    shutil.copyfile(by_pattern.names[0].as_py(), tmp_path / "mixed" / "odd.mp4")
    mixed = find_inputs([str(tmp_path / "mixed")])
    assert len(mixed) == 9
    assert {mixed.video(i).label for i in range(9)} == {None}
    (tmp_path / "other.csv").write_text(f"path,label\n{digits / by_pattern.names[0].as_py()},jump\n")
    with pytest.raises(ConfigError, match="the videos number their classes differently"):
        find_inputs(["val.csv", str(tmp_path / "other.csv")])
    (tmp_path / "bad.csv").write_text("path,label\na.mp4,1\nb.mp4\n")
    with pytest.raises(AnnotationError, match=r"bad\.csv:3: "):
        find_inputs([str(tmp_path / "bad.csv")])


def test_videos_in_tar_shards_are_extracted_from_there(tiny_checkpoint: Path, digits: Path, tmp_path: Path) -> None:
    assert main(["pack", str(digits / "val.csv"), "--out", str(tmp_path / "shards")]) == 0
    words = ["--model", str(tiny_checkpoint), "--stride", "16", "--out"]
    assert main(["extract", str(tmp_path / "shards"), *words, str(tmp_path / "packed")]) == 0
    assert main(["extract", str(digits / "val.csv"), *words, str(tmp_path / "loose")]) == 0
    tables = [parquet.read_table(tmp_path / name / "features").sort_by("path") for name in ("packed", "loose")]
    assert tables[0]["label"].equals(tables[1]["label"])
    assert tables[0]["path"].to_pylist() == tables[1]["path"].to_pylist()
    manifest = parquet.read_table(tmp_path / "packed" / "manifest.parquet")
    assert manifest["size"].to_pylist() == [None] * 8
    status = next((tmp_path / "shards").glob("*.tar")).stat()
    versions = manifest["version"].to_pylist()
    assert len(set(versions)) == 8
    assert all(version.startswith(f"{status.st_size} {status.st_mtime_ns} ") for version in versions)


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(
    slowly: str, num_listed: NumListed, tiny_checkpoint: Path, digits: Path, tmp_path: Path
) -> None:
    for number in range(40):
        (tmp_path / f"{number}.mp4").symlink_to(next(digits.glob("val/*/*.mp4")))
    words = ["extract", f"{tmp_path}", "--model", f"{tiny_checkpoint}", "--stride", "2", "--out", f"{tmp_path}/out"]
    code = f"{slowly}\nimport sys; from mvit_video.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        while process.poll() is None and not num_listed(tmp_path / "out"):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=600)[1]
    finally:
        process.kill()
    assert process.returncode == 130, told
    done = num_listed(tmp_path / "out")
    note, told = told.split("\n", 1)
    assert note.startswith("mean, std, sampling rate and activation are not in the file; assumed as published for ")
    assert told == f"stopped with {done} of 40 videos done; the same command does the rest\n"
