"""Wrong options of the verbs without a config: one line, what is meant, exit code 2."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mvit_video.cli import VERBS, main
from mvit_video.cli.options import VerbParser, count, out_folder, positive
from mvit_video.types import ConfigError

VERBS_WITHOUT_CONFIG = [name for name, verb in VERBS.items() if verb.module not in ("trainer", "predict", "robustness")]


@pytest.mark.parametrize("verb", VERBS_WITHOUT_CONFIG)
def test_an_unknown_option_is_one_line(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--zzz", "3"]) == 2
    told = capsys.readouterr()
    assert told.err == f"error: --zzz: there is no such option; see mvit-video {verb} --help\n"
    assert told.out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scan", "clips.cvs", "--out", "out"], "DATA clips.cvs: there is no such file or folder; did you mean clips"),
        (["prepare", "none", "--out", "out"], "DATA none: there is no such file or folder; docs/guides/videos.md"),
        (["pack", "none", "--out", "out"], "DATA none: there is no such file or folder; docs/guides/videos.md"),
        (["analyse", "m", "--data", "none", "--out", "out"], "--data none: there is no such file or folder; docs"),
        (["classify", "none.mp4", "--model", "m"], "VIDEO none.mp4: there is no such file or folder\n"),
        (["convert", "none.pyth", "b", "--to", "mvit_video"], "IN none.pyth: there is no such file or folder\n"),
        *(
            ([verb, "clips.csv", "--out", "clips.csv/out"], "--out clips.csv/out: clips.csv is a file, not a folder;")
            for verb in ("scan", "prepare", "pack")
        ),
        (["extract", "a", "--model", "m", "--out", "clips.csv"], "--out clips.csv: clips.csv is a file, not a folder;"),
        (["convert", "clips.csv", ".", "--to", "mvit_video"], "OUT .: a folder; give the path of a file"),
        (["convert", "clips.csv", "clips.csv/a", "--to", "mvit_video"], "OUT clips.csv/a: clips.csv is a file, not a"),
        (["models", "mvit_b_16x5"], "no model has a name like 'mvit_b_16x5'; did you mean mvit_b_"),
    ],
)  # fmt: skip
def test_paths_are_looked_at_before_the_work(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips.csv").write_text("path,label\na.mp4,run\n")
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {message}")
    assert told.count("\n") == 1
    assert os.listdir() == ["clips.csv"]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    assert out_folder(str(tmp_path / "new")) == f"the folder {tmp_path} cannot be written to; give another place"
    assert out_folder("s3://bucket/new") is None


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "/a: Permission denied; give a writable place"),
        (OSError(errno.ENOSPC, "No space left on device", "/a"), "/a: No space left on device; make room"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; --debug shows where"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    error: OSError, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(words: list[str]) -> int:
        raise error

    monkeypatch.setattr("mvit_video.cli.models.run", refuse)
    assert main(["models"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {told}")
    with pytest.raises(type(error)):
        main(["models", "--debug"])


def test_output_that_nobody_reads_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "mvit_video", "--help"], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_words_after_two_dashes_are_no_options() -> None:
    parser = VerbParser("mvit-video show", "Show.", "mvit-video show a.mp4")
    parser.add_argument("videos", nargs="*")
    assert parser.parse_args(["--", "--odd.mp4"]).videos == ["--odd.mp4"]


def test_verbs_of_a_verb_find_their_own_options() -> None:
    parser = VerbParser("mvit-video measure", "Measure.", "mvit-video measure shape a.ckpt")
    shape = parser.add_subparsers(required=True).add_parser(
        "shape", description="Shape.", example="mvit-video measure shape"
    )
    shape.add_argument("--points", type=count)
    shape.add_argument("--radius", type=positive)
    assert vars(parser.parse_args(["shape", "--points", "3", "--radius", "0.5"])) == {"points": 3, "radius": 0.5}
    with pytest.raises(ConfigError, match=r"^--point: there .* did you mean --points\?"):
        parser.parse_args(["shape", "--point", "3"])
