"""A run in a queue of Slurm: it saves when it is told to stop, and is queued again."""

import os
import signal
import subprocess
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from tests.fixtures.places import ROOT
from tests.fixtures.processes import Start

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    # Lightning calls what jsonargparse has renamed
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


def newest(folder: str) -> Path:
    return max(Path(folder).rglob("last.ckpt"), key=lambda path: path.stat().st_mtime_ns)


def wait_for_writes(process: BaseProcess, number: int) -> None:
    seen: set[tuple[Path, int]] = set(stamps())
    while number and process.is_alive():
        time.sleep(0.001)
        new = set(stamps()) - seen
        seen |= new
        number -= len(new)


def stamps() -> list[tuple[Path, int]]:
    found = []
    for path in Path("runs").rglob("last.ckpt"):
        try:
            found.append((path, path.stat().st_mtime_ns))
        except FileNotFoundError:  # it is being replaced
            continue
    return found


def test_slurm_signal_saves_and_leaves_the_queue_alone(start: Start, words: list[str], tmp_path: Path) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text("#!/bin/sh\ntouch was-requeued\n")
    scontrol.chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "fit", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost",
        "PATH": f"{scontrol.parent}:{os.environ['PATH']}",
    }  # fmt: skip
    process = start(*words, "--trainer.max_epochs=999", **slurm)
    wait_for_writes(process, 2)
    os.kill(process.pid or 0, signal.SIGUSR1)
    process.join()
    assert process.exitcode == 143
    steps = [torch.load(path, weights_only=True)["global_step"] for path in Path("runs").rglob("*.ckpt")]
    assert max(steps) == torch.load(newest("runs"), weights_only=True)["global_step"]
    assert not Path("was-requeued").exists()
    assert not list(tmp_path.rglob("hpc_ckpt*"))


def test_slurm_job_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    for name, exit_code in (("srun", 143), ("scontrol", 0)):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >>calls\nexit {exit_code}\n')
        program.chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "8", "SLURM_CPUS_PER_TASK": "4",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }  # fmt: skip
    script = ROOT / "scripts" / "slurm.sbatch"
    for _ in range(2):
        done = subprocess.run(["bash", script, "-c", "a b.yaml"], cwd=tmp_path, env=os.environ | slurm)
        assert done.returncode == 143
        path = tmp_path / "runs/job_77/tiny/version_0/checkpoints/last.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    first, queued, second, _ = (tmp_path / "calls").read_text().splitlines()
    given = (
        "mvit-video fit -c a b.yaml --trainer.num_nodes 2 --trainer.devices 8 --trainer.default_root_dir runs/job_77"
    )
    assert first == f"srun --kill-on-bad-exit=1 --cpus-per-task=4 {given}"
    assert second == f"{first} --ckpt_path last"
    assert queued == "scontrol requeue 77"
