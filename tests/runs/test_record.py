"""The record of a run is complete, and read back whatever others left in its place."""

import os
from pathlib import Path

import pytest
import torch

from mvit_video.runs.record import RECORD, read_record, source_commit, write_record


def test_record_says_what_the_config_does_not(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_record(run, checkpoint="x.ckpt", seed=3, precision="32-true", num_processes=2, device="cpu x86_64")
    record = read_record(run)
    assert list(record) == [
        "command", "started", "commit", "checkpoint", "seed", "precision", "processes", "device", "host",
        "process", "versions",
    ]  # fmt: skip
    assert (record["seed"], record["checkpoint"], record["processes"]) == (3, "x.ckpt", 2)
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert record["commit"] is None or len(record["commit"].rstrip("+")) == 40
    assert [path.name for path in run.iterdir()] == ["run.json"]


def test_commit_is_unknown_outside_a_checkout(tmp_path: Path) -> None:
    assert source_commit(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "expected an object, got list"), ("{", "Expecting property name"),
        ("[" * 100_000, "nested too deeply"), ("\xff", "codec can't decode"), (None, "not a plain file"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    if content is None:
        os.mkfifo(tmp_path / RECORD)
    else:
        (tmp_path / RECORD).write_bytes(content.encode("latin1"))
    with pytest.raises(ValueError, match=message):
        read_record(tmp_path)
