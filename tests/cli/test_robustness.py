"""The verb `robustness`: one command tests every setting, the same command again tests what is missing."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pyarrow import parquet

from mvit_video.cli import main
from mvit_video.evaluation.robustness.running import robustness_key
from mvit_video.evaluation.written_files import write_predictions
from tests.fixtures.training import Run

pytestmark = [
    # Lightning calls what jsonargparse has renamed
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]
FOLDER = Path("runs/tiny/version_1")


@pytest.fixture
def checkpoint(run: Run) -> str:
    assert run("fit", "--trainer.max_epochs=1") == 0
    return "runs/tiny/version_0/checkpoints/last.ckpt"


@pytest.mark.slow
def test_settings_are_tested_written_and_added_to(
    run: Run, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("robustness", "--ckpt_path", "last", "--studies", "views", "frame_order") == 0
    printed = capsys.readouterr().out
    assert "Robustness over 8 videos" in printed
    assert "setting 4 of 4: frames frozen" in printed
    written = {path.name for path in FOLDER.iterdir()}
    assert {
        "robustness.parquet",
        "robustness.png",
        "robustness.json",
        "predictions.parquet",
        "metrics.json",
        "run.json",
    } <= written
    assert json.loads((FOLDER / "run.json").read_text())["checkpoint"] == checkpoint
    rows = parquet.read_table(FOLDER / "robustness.parquet").to_pylist()
    assert [(row["study"], row["setting"]) for row in rows if row["metric"] == "top1"] == [
        ("views", "1 clip x 1 crop"), ("views", "2 clips x 1 crop"), ("frame_order", "forward"),
        ("frame_order", "shuffled"), ("frame_order", "reversed"), ("frame_order", "frozen"),
    ]  # fmt: skip

    words = ("--studies", "frame_order", "corruptions", "--severities", "3", "--data.loading.test_batch_size=2")
    assert run("robustness", "--ckpt_path", checkpoint, *words) == 0
    printed = capsys.readouterr().out
    assert "setting 1 of 5: gaussian_noise 3" in printed  # what was tested before is not tested again
    rows = parquet.read_table(FOLDER / "robustness.parquet").to_pylist()
    assert {row["study"] for row in rows} == {"frame_order", "corruptions"}
    assert run("robustness", "--ckpt_path", "last", "--studies", "views", "--data.views.num_clips=1") == 0
    assert (FOLDER.with_name("version_2") / "robustness.parquet").exists()  # another test, another run


def test_a_stopped_run_resumes(
    run: Run, checkpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.parent.parent.name == "robustness":  # not the plain test
            raise KeyboardInterrupt
        write_predictions(path, *args, **kwargs)

    words = ("robustness", "--ckpt_path", checkpoint, "--studies", "frame_order")
    with monkeypatch.context() as patch:
        patch.setattr("mvit_video.evaluation.multiview.write_predictions", stop)
        assert run(*words) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; the same command tests what is left"
    assert run(*words) == 0
    assert "setting 1 of 3: frames shuffled" in capsys.readouterr().out
    assert (FOLDER / "robustness.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--studies", "order"], "--studies takes one or more of views, frame_order, corruptions, each once"),
        (["--severities", "6"], "--severities takes one or more of 1, 2, 3, 4, 5, each once, got [6]"),
        (["--trainer.fast_dev_run=true"], "trainer.fast_dev_run writes nothing: try --trainer.limit_test"),
        (
            ["--data.views.frame_order=reversed"],
            "data.views.frame_order=reversed: a robustness run changes it for each",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:without --ckpt_path the weights are")
def test_user_mistake_is_one_line(run: Run, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("robustness", *words) == 2
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error"))
    assert error.startswith(f"error: {message}")
    assert not Path("runs/tiny").exists()


def test_a_mistake_leaves_what_was_tested_before(run: Run, checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("robustness", "--ckpt_path", checkpoint, "--studies", "views")
    keys = Mock(side_effect=robustness_key)
    monkeypatch.setattr("mvit_video.cli.robustness.robustness_key", keys)
    assert run(*words) == 0
    assert keys.call_count == 1  # it reads the checkpoint
    before = sorted(FOLDER.rglob("*"))
    monkeypatch.setattr("mvit_video.cli.robustness.robustness_table", _refuse)
    assert run(*words) == 2
    assert sorted(FOLDER.rglob("*")) == before
    # settings of which none was tested, in the folder of those that were
    monkeypatch.setattr("mvit_video.evaluation.multiview.write_predictions", _refuse)
    assert run("robustness", "--ckpt_path", checkpoint, "--studies", "corruptions", "--severities", "3") == 2
    assert set(before) <= set(FOLDER.rglob("*"))


def _refuse(*_: Any, **__: Any) -> None:
    from mvit_video.types import ConfigError

    raise ConfigError("no")


def test_the_old_name_of_the_verb_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "-c", "tiny.yaml"]) == 2
    assert capsys.readouterr().err == "error: the verb study is now robustness: mvit-video robustness --help\n"
