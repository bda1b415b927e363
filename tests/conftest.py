"""Fixtures that every test may use."""

import multiprocessing
import runpy
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# the same examples in every run, however slow the machine
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

REAL_VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that at the end no process works alone on one of them."""
    num_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -num_slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _handlers_of_signals() -> Iterator[None]:
    """Put back the handlers: those of a run that failed make a process that a later test forks deaf to SIGTERM."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """Folder of real clips that are not part of the repository."""
    if not REAL_VIDEOS.is_dir():
        pytest.skip("the folder of real videos (../shared/videos) is not present")
    return REAL_VIDEOS


@pytest.fixture(scope="session")
def start() -> Callable[..., BaseProcess]:
    """Starts `mvit-video` in a process that has it loaded already; what it prints is added to `log.txt`.

    `before` is code that the process runs first.
    """
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # one that began for others has less loaded
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        # pandas is not ours, but pyarrow loads it where it is
        ["mvit_video.cli.trainer", "mvit_video.cli.predict", "torch.utils.tensorboard", "pandas"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()

    def start(*words: str, before: str = "", **environment: str) -> BaseProcess:
        given = {"WORDS": words, "BEFORE": before, "ENVIRONMENT": environment}
        process = context.Process(target=runpy.run_path, args=(str(Path(__file__).with_name("child.py")), given))
        process.start()
        return process

    return start


@pytest.fixture(scope="session")
def start_two(start: Callable[..., BaseProcess]) -> Callable[..., list[BaseProcess]]:
    """Starts it in two processes that work together, as `torchrun --nproc-per-node 2` does."""

    def start_two(*words: str) -> list[BaseProcess]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        shared = {
            "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        return [start(*words, "--trainer.devices=2", **shared, RANK=str(i), LOCAL_RANK=str(i)) for i in range(2)]

    return start_two
