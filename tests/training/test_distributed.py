"""Two processes that train together: the same run as one process, and they stop together."""

import itertools
import json
import math
import os
import subprocess
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.fixtures.processes import Start, StartTwo

# what the processes import from the folder that they run in
CALLBACKS = '''
import json
import os
import signal
from lightning.pytorch import Callback

class Record(Callback):
    """Writes loss and videos of each batch."""

    def on_fit_start(self, trainer, task):
        self.seen = []

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
        self.seen.append([trainer.current_epoch, float(outputs["loss"]), batch.video.tolist()])

    def on_train_end(self, trainer, task):
        with open(f"{trainer.world_size}-{trainer.global_rank}.json", "w") as file:
            json.dump(self.seen, file)

class Poison(Callback):
    """A loss that is not a number, in the second process alone."""

    def on_before_backward(self, trainer, task, loss):
        if trainer.global_rank == 1 and trainer.global_step == 2:
            loss.data.fill_(float("nan"))

class Signal(Callback):
    """SIGTERM to the second process alone, within the second epoch."""

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

class Strict(Callback):
    """No video may fail."""

    def on_fit_start(self, trainer, task):
        for callback in trainer.callbacks:
            if type(callback).__name__ == "StopAtFailureRate":
                callback.highest = 0.0
'''


@pytest.fixture
def config(recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    Path("callbacks.py").write_text(CALLBACKS)
    return recipe


def plain(config: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """Nothing random that hangs on the process, nor an optimiser that makes a step of the noise around zero."""
    config = config | {"model": {key: value for key, value in config["model"].items() if key != "mixing"}}
    config["model"]["net"]["init_args"].update(dropout=0.0, drop_path_rate=0.0)
    config["model"]["optimizer"] = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.9}}
    config["data"]["loading"]["batch_size"] = batch_size
    return config


def command(config: dict[str, Any], name: str, *words: str) -> list[str]:
    Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
    return ["fit", "-c", f"{name}.yaml", *words]


def exit_codes(processes: list[BaseProcess]) -> list[int | None]:
    for process in processes:
        used = -1.0
        while process.is_alive() and used < (used := cpu_seconds_of(process.pid or 0)):
            process.join(timeout=120)
        process.kill()  # one that takes no CPU time for so long hangs, however busy the machine is
        process.join()
    return [process.exitcode for process in processes]


def cpu_seconds_of(pid: int) -> float:
    """CPU time of a process; infinite when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.inf
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def last(name: str) -> dict[str, Any]:
    return torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)


def errors() -> list[str]:
    return [line for line in Path("log.txt").read_text().splitlines() if line.startswith("error: ")]


@pytest.mark.slow
def test_two_processes_take_the_same_steps_as_one(start: Start, start_two: StartTwo, config: dict[str, Any]) -> None:
    record = "--trainer.callbacks=callbacks.Record"
    one = start(*command(plain(config, 4), "one", record))
    two = start_two(*command(plain(config, 2), "two", record))
    assert exit_codes([one, *two]) == [0, 0, 0]

    whole, *shares = (json.loads(Path(f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert len(whole) == len(shares[0]) == len(shares[1]) == 12
    for (_, loss, rows), (_, first_loss, first), (_, second_loss, second) in zip(whole, *shares, strict=True):
        assert sorted(rows) == sorted(first + second)
        assert loss == pytest.approx((first_loss + second_loss) / 2, rel=1e-5)
    for epoch, batches in itertools.groupby(zip(*shares, strict=True), key=lambda pair: pair[0][0]):
        rows = [row for pair in batches for _, _, share in pair for row in share]
        assert sorted(rows) == list(range(16)), f"epoch {epoch}"
    torch.testing.assert_close(last("one")["state_dict"], last("two")["state_dict"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_process_whose_videos_all_failed_keeps_step_with_the_other(
    start_two: StartTwo, config: dict[str, Any], digits: Path
) -> None:
    rows = (digits / "train.csv").read_text().replace("train/", f"{digits}/train/").splitlines()
    Path("broken.mp4").write_bytes(b"no video")
    label = rows[1].split(",")[1]
    Path("broken.csv").write_text("\n".join([*rows[:8], f"broken.mp4,{label}"]))
    config["data"] |= {"train": "broken.csv", "val": None}
    config["data"]["loading"] |= {"batch_size": 1, "on_error": "skip", "max_failure_rate": 0.2}
    config["trainer"]["max_epochs"] = 1
    assert exit_codes(start_two(*command(config, "skip"))) == [0, 0]
    checkpoint = last("skip")
    assert checkpoint["global_step"] == 4
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    assert "broken.mp4" in Path("runs/skip/version_0/failures.csv").read_text()

    assert exit_codes(start_two(*command(config, "strict", "--trainer.callbacks=callbacks.Strict"))) == [1, 1]
    (line,) = errors()
    assert line.startswith("error: 1 of 8 videos of data.train could not be read in epoch 1")


@pytest.mark.slow
def test_number_that_is_none_in_one_process_stops_both(start_two: StartTwo, config: dict[str, Any]) -> None:
    processes = start_two(*command(config, "poison", "--trainer.callbacks=callbacks.Poison"))
    assert exit_codes(processes) == [1, 1]
    (line,) = errors()
    assert line.startswith("error: epoch 1, step 3: the loss is nan; videos: train/")
    assert line.count(".mp4") == 2
    good = torch.load("runs/poison/version_0/checkpoints/last_good.ckpt", weights_only=True)
    assert good["global_step"] == 2


@pytest.mark.slow
def test_signal_to_one_process_stops_both_and_the_run_goes_on_exactly(
    start_two: StartTwo, config: dict[str, Any]
) -> None:
    config["data"]["val"] = None
    assert exit_codes(start_two(*command(config, "whole"))) == [0, 0]
    words = command(config, "runs")
    assert exit_codes(start_two(*words, "--trainer.callbacks=callbacks.Signal")) == [143, 143]
    assert 6 <= last("runs")["global_step"] < 12
    assert exit_codes(start_two(*words, "--ckpt_path=last")) == [0, 0]
    continued = torch.load("runs/runs/version_1/checkpoints/last.ckpt", weights_only=True)
    for key in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(continued[key], last("whole")[key], rtol=0, atol=0)


@pytest.mark.slow
def test_net_that_is_sharded_takes_the_same_steps(start: Start, start_two: StartTwo, config: dict[str, Any]) -> None:
    one = start(*command(plain(config, 4), "one"))
    config = plain(config, 2)
    config["trainer"]["strategy"] = {
        "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
        "init_args": {"data_parallel_size": 2, "tensor_parallel_size": 1, "save_distributed_checkpoint": False},
    }
    words = command(config, "shards")
    assert exit_codes(start_two(*words, "--trainer.callbacks=callbacks.Poison")) == [1, 1]
    assert len(errors()) == 1
    good = "--ckpt_path=runs/shards/version_0/checkpoints/last_good.ckpt"
    assert exit_codes([one, *start_two(*words, good)]) == [0, 0, 0]
    sharded = torch.load("runs/shards/version_1/checkpoints/last.ckpt", weights_only=True)
    torch.testing.assert_close(sharded["state_dict"], last("one")["state_dict"], rtol=1e-4, atol=1e-6)

    begin = "--model.init_from.path=runs/one/version_0/checkpoints/best.ckpt"
    assert exit_codes(start_two(*words, begin, "--trainer.max_epochs=1")) == [0, 0]


@pytest.mark.slow
def test_torchrun_starts_the_same_run(start_two: StartTwo, config: dict[str, Any]) -> None:
    config["trainer"] |= {"max_epochs": 1, "strategy": "ddp"}
    words = command(config, "torchrun", "--trainer.devices=2")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "mvit_video", *words],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1") == 1
    assert exit_codes(start_two(*command(config, "two"))) == [0, 0]
    torch.testing.assert_close(last("torchrun")["state_dict"], last("two")["state_dict"], rtol=0, atol=0)
