import ctypes
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data import ClipBatch, VideoDataset, VideoReader, VideoTable
from mvit_video.data.clips.views import MadeViews, RandomView
from mvit_video.data.loader import EpochSampler, VideoLoader, explain_dead_worker
from mvit_video.types import ClipSpec, MVitVideoError, VideoDecodeError

CLIP = ClipSpec(num_frames=4, sampling_rate=3)


@pytest.fixture
def table(tmp_path: Path, barcode_video: Path) -> VideoTable:
    """Five videos, the fourth of which is no video."""
    for i in range(5):
        if i == 3:
            (tmp_path / "3.mp4").write_text("no video")
        else:
            (tmp_path / f"{i}.mp4").symlink_to(barcode_video)
    return VideoTable(pa.array([f"{i}.mp4" for i in range(5)]), np.array([0, 1, 2, 0, -1]), None, tmp_path)


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, num_processes: int) -> None:
    monkeypatch.setattr("mvit_video.data.loader.rank_and_size", lambda: (rank, num_processes))


@pytest.mark.parametrize(("even", "per_rank"), [(True, [3, 3, 3]), (False, [4, 4, 3])])
def test_processes_share_an_epoch(monkeypatch: pytest.MonkeyPatch, even: bool, per_rank: list[int]) -> None:
    rows = []
    for rank, expected in enumerate(per_rank):
        as_rank(monkeypatch, rank, 3)
        sampler = EpochSampler(11, shuffle=True, even=even, seed=5)
        mine = [row for _, row in sampler]
        assert len(mine) == len(sampler) == expected
        rows += mine
    assert len(rows) == len(set(rows)) == sum(per_rank)


def test_every_epoch_has_its_own_order() -> None:
    sampler = EpochSampler(20, shuffle=True, even=True, seed=5)
    first = list(sampler)
    assert list(sampler) == first
    assert sorted(row for _, row in first) == list(range(20))
    sampler.set_epoch(1)
    second = list(sampler)
    assert {epoch for epoch, _ in second} == {1}
    assert [row for _, row in second] != [row for _, row in first]
    assert [row for _, row in EpochSampler(20, shuffle=True, even=True, seed=6)] != [row for _, row in first]
    assert [row for _, row in EpochSampler(3, shuffle=False, even=False)] == [0, 1, 2]


@given(
    st.integers(1, 200), st.integers(1, 5), st.integers(0, 60), st.booleans(), st.booleans(), st.integers(0, 2**32)
)  # fmt: skip
def test_shares_are_those_of_the_whole_order(
    num_videos: int, num_processes: int, steps_done: int, shuffle: bool, even: bool, seed: int
) -> None:
    order = np.random.default_rng([seed, 4]).permutation(num_videos) if shuffle else np.arange(num_videos)
    kept = order[: num_videos // num_processes * num_processes] if even else order
    with pytest.MonkeyPatch.context() as patch:
        for rank in range(num_processes):
            as_rank(patch, rank, num_processes)
            sampler = EpochSampler(num_videos, shuffle=shuffle, even=even, seed=seed)
            sampler.set_epoch(4)
            sampler.num_done = steps_done * num_processes
            expected = kept[sampler.num_done + rank :: num_processes]
            assert list(sampler) == [(4, row) for row in expected.tolist()]
            assert all(type(row) is int for _, row in sampler)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_stopped_epoch_goes_on_on_every_process(monkeypatch: pytest.MonkeyPatch, num_processes: int) -> None:
    rest = []
    for rank in range(num_processes):
        as_rank(monkeypatch, rank, num_processes)
        sampler = EpochSampler(12, shuffle=True, even=True)
        sampler.set_epoch(3)
        whole = list(sampler)
        sampler.num_done = 4
        sampler.set_epoch(3)
        assert list(sampler) == whole[4 // num_processes :]
        assert len(sampler) == 12 // num_processes
        rest += list(sampler)
        sampler.set_epoch(4)
        assert len(list(sampler)) == 12 // num_processes
    assert len(set(rest)) == 8


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_of_ten_million_videos_begins_within_200_megabytes(shuffle: bool) -> None:
    class Rows(torch.utils.data.Dataset):
        def __getitem__(self, key: tuple[int, int]) -> tuple[int, int]:
            return key

    dataset: Any = Rows()
    sampler = EpochSampler(10_000_000, shuffle=shuffle, even=True)
    loader = VideoLoader(dataset, sampler=sampler, batch_size=8, collate_fn=lambda keys: ClipBatch(*[keys] * 4, [], []))
    tracemalloc.start()
    try:
        batches = list(islice(loader, 3))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len({key for batch in batches for key in batch.video}) == 24
    assert peak < 200e6


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loader_raises_one_line_also_from_workers(table: VideoTable, num_workers: int) -> None:
    dataset = VideoDataset(table, RandomView(CLIP, 32), on_error="skip")
    with pytest.raises(VideoDecodeError, match=r"3\.mp4: cannot be decoded") as caught:
        list(VideoLoader(dataset, batch_size=2, num_workers=num_workers))
    assert "\n" not in str(caught.value)
    batches = list(VideoLoader(dataset, on_error="skip", batch_size=2, num_workers=num_workers))
    assert [failure.video for batch in batches for failure in batch.failures] == [3]
    assert [decode.video for batch in batches for decode in batch.decodes] == [0, 1, 2, 4]


@dataclass(frozen=True)
class Act:
    """Views that do something in place of reading, in the worker."""

    act: Callable[[VideoReader], float]
    num_frames: int = 1
    crop_size: int = 1
    short_side: int = 1

    def __call__(self, reader: VideoReader, rng: np.random.Generator) -> MadeViews:
        return MadeViews(torch.full((1, 3, 1, 1, 1), float(self.act(reader))), torch.zeros(1, 2), too_short=False)


def die(reader: VideoReader) -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def leave(reader: VideoReader) -> float:
    os._exit(3)


def sleep(reader: VideoReader) -> float:
    time.sleep(1.0)
    return 0


def count_threads(reader: VideoReader) -> float:
    return torch.get_num_threads()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            die,
            r"^a loader process \(pid \d+\) was ended by a signal \(Killed\): probably out of memory.*num_workers",
        ),
        (leave, r"^a loader process \(pid \d+\) exited: set data\.loading\.num_workers=0 to see the error$"),
    ],
)
def test_a_worker_that_dies_is_one_line(table: VideoTable, act: Any, message: str) -> None:
    with pytest.raises(MVitVideoError, match=message):
        list(VideoLoader(VideoDataset(table, Act(act)), batch_size=1, num_workers=1))


def test_a_worker_that_dies_after_a_run_is_noticed_at_once(table: VideoTable) -> None:
    sound = VideoDataset(table, Act(len), on_error="skip")
    list(VideoLoader(sound, on_error="skip", batch_size=1, num_workers=1))  # torch installs its handler
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # as Lightning leaves it after a run
    with pytest.raises(MVitVideoError, match=r"was ended by a signal \(Killed\)"):
        list(VideoLoader(VideoDataset(table, Act(die)), batch_size=1, num_workers=1, timeout=60))


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Killed. ",
            "lower data.loading.num_workers or data.loading.batch_size",
        ),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that", "/dev/shm"),
        ("DataLoader worker (pid 7) is killed by signal: Segmentation fault. ", "find it with mvit-video scan"),
        (
            "DataLoader worker (pid(s) 7, 8) exited unexpectedly",
            "(pid 7, 8) exited: set data.loading.num_workers=0",
        ),
    ],
)
def test_the_advice_depends_on_how_a_worker_died(text: str, advice: str) -> None:
    death = explain_dead_worker(RuntimeError(text))
    assert advice in str(death)
    assert "\n" not in str(death)
    assert explain_dead_worker(RuntimeError("CUDA out of memory")) is None


def test_a_wait_for_workers_names_the_videos(table: VideoTable) -> None:
    sampler = EpochSampler(5, shuffle=False, even=False)
    sampler.num_done = 1
    dataset = VideoDataset(table, Act(sleep))
    loader = VideoLoader(dataset, batch_size=1, sampler=sampler, num_workers=1, timeout=0.6)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        assert next(iter(loader)).video.tolist() == [1]
    # a slow machine waits, and says so, more than once
    assert re.fullmatch(r"no batch for 0\.6 seconds; waiting for .*/1\.mp4", str(caught[0].message))


def test_loaders_are_patient_where_they_have_workers(table: VideoTable) -> None:
    dataset = VideoDataset(table, RandomView(CLIP, 32))
    assert VideoLoader(dataset, num_workers=1).timeout == 300
    assert VideoLoader(dataset).timeout == 0


def test_workers_use_one_thread_each(table: VideoTable) -> None:
    torch.set_num_threads(2)
    try:
        loader = VideoLoader(VideoDataset(table, Act(count_threads), on_error="skip"), on_error="skip", num_workers=2)
        assert {float(batch.clip[0, 0, 0, 0, 0]) for batch in loader if len(batch.clip)} == {1.0}
    finally:
        torch.set_num_threads(1)


@pytest.mark.slow
def test_spawned_workers_read_the_same(table: VideoTable) -> None:
    dataset = VideoDataset(table, RandomView(CLIP, 32), on_error="skip")

    def read(**options: Any) -> list[ClipBatch]:
        sampler = EpochSampler(5, shuffle=True, even=True)
        return list(VideoLoader(dataset, on_error="skip", batch_size=2, sampler=sampler, **options))

    with warnings.catch_warnings():
        spawned = read(num_workers=1, multiprocessing_context="spawn")
    for batch, same in zip(spawned, read(), strict=True):
        assert torch.equal(batch.clip, same.clip)
        assert torch.equal(batch.seconds, same.seconds)
        assert (batch.failures, batch.decodes) == (same.failures, same.decodes)


class Stuck:
    """Items that never come: native code sleeps with the GIL in its hands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return 4

    def __getitem__(self, key: tuple[int, int]) -> Any:
        (self.folder / f"{os.getpid()}.pid").touch()
        ctypes.PyDLL(None).sleep(60)


def read_from_stuck(folder: Path) -> None:
    dataset: Any = Stuck(folder)
    next(iter(VideoLoader(dataset, batch_size=1, num_workers=2, sampler=EpochSampler(4, shuffle=False, even=False))))


@pytest.mark.skipif(sys.platform != "linux", reason="only the Linux kernel kills the children of a process")
def test_workers_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    parent = multiprocessing.get_context("fork").Process(target=read_from_stuck, args=(tmp_path,))
    parent.start()
    while len(pids := [int(path.stem) for path in tmp_path.glob("*.pid")]) < 2:
        assert parent.is_alive()
        time.sleep(0.01)
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_outlive_a_thread_and_run_what_the_user_gave(tmp_path: Path, table: VideoTable) -> None:
    dataset = VideoDataset(table, RandomView(CLIP, 16), on_error="skip")

    def begin(number: int) -> None:
        (tmp_path / f"worker-{number}").touch()

    batches: list[Any] = []
    loader = VideoLoader(
        dataset, on_error="skip", batch_size=1, num_workers=1, prefetch_factor=1, worker_init_fn=begin,
        sampler=EpochSampler(5, shuffle=False, even=False),
    )  # fmt: skip
    iterator = iter(loader)
    thread = threading.Thread(target=lambda: batches.append(next(iterator)))
    thread.start()
    thread.join()
    assert len(list(iterator)) + len(batches) == 5
    assert (tmp_path / "worker-0").exists()
