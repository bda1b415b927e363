"""Settings and checks of every test; other fixtures are in `tests/fixtures`, for tests in any folder."""

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# the same examples in every run, on a slow machine too
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a background job; programs under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    f"tests.fixtures.{name}"
    for name in ("data", "door", "evaluation", "features", "nets", "pages", "processes", "training")
]


MOST_PROCESSES = 4


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Test folders in several processes, but files in this one: starting others takes longer than most files."""
    folders = [arg for arg in config.args if Path(config.invocation_params.dir, arg).is_dir()]
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES) if folders and config.option.capture != "no" else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files with slow tests first: a long file at the end would keep one process busy and the others idle."""
    num_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -num_slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch  # slow, and needed only in processes that run tests

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _handlers_of_signals() -> Iterator[None]:
    """Restore the handlers: those of a failed run would make the processes of a later test ignore SIGTERM."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """Fail where a test leaves a process: a user's program would keep it too, with its memory and its files."""
    before = set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) <= before
