"""Hung is what uses too much CPU time, or none; never what waits for a core."""

import subprocess
import sys
import threading
import time

import pytest

from mvit_video.data.readers.libraries import TimedOut, call_with_limit
from mvit_video.jobs import hangs
from mvit_video.jobs.hangs import HangWatch, name_this_thread, process_cpu_seconds, threads_cpu_seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day in seconds, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(hangs.time, "monotonic", lambda: now[0])
    return now


def test_a_busy_machine_makes_nothing_look_hung(clock: list[float]) -> None:
    """An hour passes in which the work gets four seconds on a core."""
    used = [0.0]
    watch = HangWatch(lambda: used[0], limit_seconds=5)
    for _ in range(400):
        clock[0] += 9
        used[0] += 0.01
        assert not watch.is_hung()


def test_work_that_spins_or_sleeps_is_hung(clock: list[float]) -> None:
    used = [0.0]
    watch = HangWatch(lambda: used[0], limit_seconds=5, idle_seconds=60)
    used[0] = clock[0] = 5.1
    assert watch.is_hung()
    watch.beat()
    assert not watch.is_hung()
    for _ in range(60):
        clock[0] += 1
        assert not watch.is_hung()
    clock[0] += 1
    assert watch.is_hung()


def test_a_pause_of_the_watcher_does_not_count(clock: list[float]) -> None:
    """Ctrl-Z stops it together with the work, for an hour."""
    watch = HangWatch(lambda: 0.0, limit_seconds=5, idle_seconds=60)
    for _ in range(3):
        clock[0] += 3600
        assert not watch.is_hung()
    looks = 0
    while not watch.is_hung():
        clock[0] += watch.poll_seconds
        looks += 1
    assert looks * watch.poll_seconds > 40


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_call_that_waits_longer_than_its_limit_is_not_hung() -> None:
    """Its limit is CPU time: half a second of waiting costs none of a fifth."""

    def wait() -> str:
        for _ in range(5):
            time.sleep(0.1)
        return "there"

    assert call_with_limit(wait, "it", 0.2) == "there"


def test_a_call_that_spins_is_left_behind() -> None:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    with pytest.raises(TimedOut, match="it did not return within 0 s of CPU time"):
        call_with_limit(spin, "it", 0.2)
    stop.set()


def test_the_cpu_time_of_threads_that_a_call_starts_counts() -> None:
    """Those of decord and torchcodec do the work, and Python does not know them."""

    stop, pid = threading.Event(), hangs.os.getpid()

    def spin() -> None:
        while not stop.is_set():
            pass

    def run() -> None:
        name_this_thread("call of a test")
        threads = [threading.Thread(target=spin) for _ in range(2)]
        for thread in threads:
            thread.start()
        while threads_cpu_seconds("call of a test") < 0.3 and process_cpu_seconds(pid) - before < 5:
            time.sleep(0.01)
        seen.append(threads_cpu_seconds("call of a test"))
        stop.set()
        for thread in threads:
            thread.join()

    seen, before = list[float](), process_cpu_seconds(pid)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen[0] >= 0.3
    assert process_cpu_seconds(pid) - before >= 0.3


def test_the_cpu_time_of_other_threads_does_not_count() -> None:
    """Several videos are decoded at once, and nets start threads of their own meanwhile."""
    others = [threading.Thread(target=burn, args=(0.5,)) for _ in range(2)]
    starts = threading.Timer(0.05, lambda: [thread.start() for thread in others])
    starts.start()

    def wait() -> str:
        for thread in (starts, *others):
            thread.join()
        return "there"

    assert call_with_limit(wait, "it", 0.2) == "there"


HANGING = """
import time
from mvit_video.jobs.hangs import EndOfHung

guard = EndOfHung(0.5)
with guard.watching() as heartbeat:
    for _ in range(3):
        heartbeat()
        time.sleep(0.3)
time.sleep(0.8)
print("slow, but alive", flush=True)
with guard.watching():
    # most of a second without a heartbeat, a fifth of it on a core: what a busy machine leaves
    for _ in range(7):
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        time.sleep(0.1)
print("kept waiting, but alive", flush=True)
with guard.watching():
    time.sleep(600)
"""


def test_a_process_ends_itself_when_its_work_hangs_but_not_when_it_is_slow() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=300)
    assert ended.stdout == "slow, but alive\nkept waiting, but alive\n"
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
