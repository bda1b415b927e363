"""Runs that are stopped and continued, and runs of two processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from pyarrow import parquet

from mvit_video.types import TrainingError
from tests.fixtures.processes import StartTwo
from tests.fixtures.training import Run

pytestmark = [
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    # Lightning calls what jsonargparse has renamed
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


class Spy(Callback):
    """Remembers the trainer, and raises Ctrl-C at (epoch, batch)."""

    trainer: Trainer
    at: tuple[int, int] | None = None

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        Spy.trainer = trainer
        if (trainer.current_epoch, batch_idx) == Spy.at:
            raise KeyboardInterrupt


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> type[Spy]:
    from mvit_video.cli import trainer

    monkeypatch.setattr(trainer.VideoCLI, "callbacks", _with_spy(trainer.VideoCLI.callbacks))
    monkeypatch.setattr(Spy, "at", None)
    return Spy


def _with_spy(callbacks: Callable[[Any], list[Callback]]) -> Callable[[Any], list[Callback]]:
    return lambda cli: [Spy(), *callbacks(cli)]


@pytest.mark.slow
def test_flags_and_yaml_win_over_the_checkpoint(run: Run, spy: type[Spy], tmp_path: Path) -> None:
    assert run("fit", "--trainer.max_epochs=1") == 0
    path = tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"] = {
        "label_smoothing": 0.2,
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
    torch.save(checkpoint, path)
    assert run("fit", f"--ckpt_path={path}", "--model.label_smoothing=0.7") == 0
    assert spy.trainer.lightning_module.label_smoothing == 0.7
    saved = yaml.safe_load((tmp_path / "runs/tiny/version_1/config.yaml").read_text())
    assert saved["model"]["label_smoothing"] == 0.7
    assert saved["ckpt_path"] is None
    assert json.loads((tmp_path / "runs/tiny/version_1/run.json").read_text())["checkpoint"] == str(path)


@pytest.mark.parametrize("at", [(0, 1), (1, 2)])
@pytest.mark.slow
def test_stopped_and_continued_run_equals_one_run(
    run: Run, spy: type[Spy], tmp_path: Path, capsys: pytest.CaptureFixture[str], at: tuple[int, int]
) -> None:
    assert run("fit", "--trainer.default_root_dir=whole") == 0
    spy.at = at
    assert run("fit") == 130
    stopped = capsys.readouterr().err.splitlines()
    assert stopped[-1] == (
        "stopped; the same command with --ckpt_path last resumes from runs/tiny/version_0/checkpoints/last.ckpt"
    )
    spy.at = None
    assert run("fit", "--ckpt_path", "last") == 0
    whole = torch.load("whole/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    continued = torch.load("runs/tiny/version_1/checkpoints/last.ckpt", weights_only=True)
    assert continued["global_step"] == whole["global_step"] == 8
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, continued["state_dict"][name]), name


@pytest.mark.parametrize("ending", ["done", "stopped", "failed"])
def test_a_run_gives_back_the_handlers_of_signals(
    run: Run, spy: type[Spy], monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(signum) for signum in signals]
    if ending == "stopped":
        spy.at = (0, 1)
    if ending == "failed":
        monkeypatch.setattr(Spy, "on_train_start", _fail, raising=False)
    assert run("fit", "--trainer.max_epochs=1") == {"done": 0, "stopped": 130, "failed": 1}[ending]
    assert [signal.getsignal(signum) for signum in signals] == before


def _fail(*_: object) -> None:
    raise TrainingError("on purpose")


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stop_is_saved_although_workers_hear_the_signal_too(run: Run, tmp_path: Path, signum: int, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mvit_video", "fit", "-c", "tiny.yaml", "--trainer.max_epochs=999",
         "--data.loading.num_workers=1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch 1"):
        assert process.poll() is None
    os.killpg(process.pid, signum)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == code
    assert errors.splitlines()[-1].startswith("stopped; the same command with --ckpt_path last")
    assert "Traceback" not in errors
    assert (tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt").is_file()


@pytest.mark.slow
def test_two_processes_train_together_and_score_as_one(run: Run, start_two: StartTwo, digits: Path) -> None:
    rows = (digits / "val.csv").read_text().replace("val/", f"{digits}/val/").splitlines()
    Path("uneven.csv").write_text("\n".join(rows[:-1]))  # 7 videos: 2 batches and 1
    config = yaml.safe_load(Path("tiny.yaml").read_text())
    config["data"]["val"], config["data"]["loading"]["batch_size"] = "uneven.csv", 3
    Path("tiny.yaml").write_text(yaml.safe_dump(config))
    # one that starts the other
    command = [sys.executable, "-m", "mvit_video", "fit", "-c", "tiny.yaml", "--trainer.devices=2"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--trainer.max_epochs=1"], capture_output=True, text=True, env=env, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Grad strides" not in done.stderr
    for process in (two := start_two("test", "-c", "tiny.yaml", "--ckpt_path=last")):
        process.join(600)
    assert [process.exitcode for process in two] == [0, 0], Path("log.txt").read_text()
    assert run("test", "--ckpt_path=last") == 0
    pair, one = (parquet.read_table(f"runs/tiny/version_{i}/predictions.parquet") for i in (1, 2))
    assert pair.equals(one)
