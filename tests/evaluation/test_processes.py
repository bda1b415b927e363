"""A test in two processes writes what one writes, bit by bit, whether a sampler pads or every video is read once."""

import contextlib
import json
import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from pyarrow import parquet
from torch.utils.data import DistributedSampler

from mvit_video.data.dataset import VideoDataset
from mvit_video.data.loader import VideoLoader
from mvit_video.evaluation import MultiViewEvaluation
from tests.fixtures.evaluation import MakeData, MakeOracle

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
]


def score_in(num_processes: int, folder: Path, data: Any, task: Any, padded: bool) -> None:
    """One process's part."""
    if padded:
        whole = data.test_dataloader

        def padded_loader() -> VideoLoader:
            dataset = whole().dataset
            assert isinstance(dataset, VideoDataset)
            return VideoLoader(
                dataset, on_error="skip", batch_size=2, sampler=DistributedSampler(dataset, shuffle=False)
            )

        data.test_dataloader = padded_loader
    with (folder / f"{os.environ.get('RANK', 0)}.txt").open("w") as log, contextlib.redirect_stdout(log):
        trainer = Trainer(
            accelerator="cpu", devices=num_processes, strategy="ddp" if num_processes > 1 else "auto", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, callbacks=[MultiViewEvaluation(folder / "run")], default_root_dir=folder,
        )  # fmt: skip
        trainer.test(task, datamodule=data, verbose=False)
        print({name: float(value) for name, value in trainer.callback_metrics.items()})


def score_in_two(folder: Path, data: Any, task: Any, padded: bool) -> list[int | None]:
    """As `torchrun --nproc-per-node 2` starts them; their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(rank: int) -> None:
        os.environ |= {
            "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank),
        }  # fmt: skip
        score_in(2, folder, data, task, padded)

    processes = [multiprocessing.get_context("fork").Process(target=run, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=600)
        process.kill()  # one that hangs
    return [process.exitcode for process in processes]


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "each video once"])
def test_two_processes_equal_one(
    make_data: MakeData, oracle: MakeOracle, broken: Path, tmp_path: Path, padded: bool
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    # nine videos, of which one cannot be read: two processes do not share them evenly
    settings = {"test": str(broken), "on_error": "skip", "test_batch_size": 2}
    score_in(1, folders[0], make_data(**settings), oracle({1: 0, 6: 0}), padded=False)
    assert score_in_two(folders[1], make_data(**settings), oracle({1: 0, 6: 0}), padded) == [0, 0]

    one, two = (parquet.read_table(folder / "run" / "predictions.parquet") for folder in folders)
    assert one.equals(two, check_metadata=True)
    for name in ("failures.csv", "confusion.parquet"):
        assert (folders[0] / "run" / name).read_bytes() == (folders[1] / "run" / name).read_bytes()
    first, second = (json.loads((folder / "run" / "metrics.json").read_text()) for folder in folders)
    assert second["videos"].pop("repeated_views") == (6 if padded else 0)
    del first["videos"]["repeated_views"]
    assert first == second
    logs = [(folders[1] / f"{rank}.txt").read_text().splitlines()[-1] for rank in range(2)]
    assert logs == [(folders[0] / "0.txt").read_text().splitlines()[-1]] * 2
