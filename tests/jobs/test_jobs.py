"""Jobs over many items: crashes, hangs and kills harm nothing but the item that they meet."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from mvit_video.jobs import Ledger, Workers, WorkFailure, run_in_processes, run_job

WORK = """
import os, signal, time

def work(item, heartbeat):
    name, _, folder = item.partition(":")
    if name == "exit":
        os._exit(3)
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "raise":
        raise KeyError(item)
    if name == "hang":
        if folder:
            open(os.path.join(folder, str(os.getpid())), "w").close()
        time.sleep(600)
    if name == "long":
        for _ in range(6):
            time.sleep(0.5)
            heartbeat()
    return item.upper()
"""
SCHEMA = pa.schema({"path": pa.string(), "value": pa.string()})


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], None]], str]:
    """A function that worker processes can import."""
    (tmp_path / "work_of_jobs.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "work_of_jobs", raising=False)
    return import_module("work_of_jobs").work


def test_crashes_hangs_and_errors_are_told_and_the_rest_is_done(work: Callable) -> None:
    plain = [f"item {i}" for i in range(50)]
    items = ["exit", "hang", *plain[:25], "killed", "raise", "long", *plain[25:]]
    found = dict(run_in_processes(work, iter(items), num_workers=3, limit_seconds=2))
    assert found.keys() == set(items)
    assert [found[item] for item in plain] == [item.upper() for item in plain]
    assert found["exit"] == WorkFailure("crash", "its process ended (exit code 3)")
    assert found["killed"] == WorkFailure("crash", "its process ended (SIGKILL, perhaps out of memory)")
    assert found["raise"] == WorkFailure("error", "KeyError: 'raise'")
    assert found["hang"] == WorkFailure("time-out", "no heartbeat for 2 s")
    assert found["long"] == "LONG"  # longer than the limit, with signs of life


def test_items_are_drawn_as_workers_become_free(work: Callable) -> None:
    drawn = []
    endless = (drawn.append(i) or str(i) for i in range(10**9))
    results = run_in_processes(work, endless, num_workers=2, limit_seconds=60)
    assert len([next(results) for _ in range(10)]) == 10
    results.close()
    assert len(drawn) <= 13


def test_workers_that_cannot_start_are_an_error(work: Callable, tmp_path: Path) -> None:
    (tmp_path / "work_of_jobs.py").write_text("raise RuntimeError('nothing here')")
    with pytest.raises(RuntimeError, match=r"a worker process ended before it was ready \(exit code 1\)"):
        list(run_in_processes(work, ["item"], num_workers=1, limit_seconds=60))


def test_workers_end_with_the_process_that_is_killed(work: Callable, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    code = (
        "from mvit_video.jobs import run_in_processes; from work_of_jobs import work\n"
        f"list(run_in_processes(work, ['hang:{pids}'] * 2, num_workers=2, limit_seconds=600))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as job:
        _wait_until(lambda: len(list(pids.iterdir())) == 2)
        job.send_signal(signal.SIGKILL)
    _wait_until(lambda: not any(_is_running(int(path.name)) for path in pids.iterdir()))


def test_a_job_writes_its_rows_and_tells_how_far_it_came(work: Callable, tmp_path: Path) -> None:
    ledger, shown = Ledger(tmp_path / "done", SCHEMA), Console(file=(tmp_path / "shown").open("w"))
    items = [f"item {i}" for i in range(5)]
    run_job("testing", work, items, lambda item, value: {"path": item, "value": value}, ledger, Workers(2, 60, shown))
    assert sorted(ledger.load()["value"].to_pylist()) == [item.upper() for item in items]
    assert (tmp_path / "shown").read_text().strip() == ""  # no bar off a terminal
    shown.file.close()


def test_the_last_row_of_a_path_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, SCHEMA)
    assert ledger.load().num_rows == 0
    for values in (["a", "b"], ["c"]):
        for path, value in zip(["one", "two"], values, strict=False):
            ledger.add({"path": path, "value": value})
        ledger.flush()
    assert len(list(tmp_path.iterdir())) == 2
    assert ledger.load().sort_by("path").to_pydict() == {"path": ["one", "two"], "value": ["c", "b"]}
    assert len(list(tmp_path.iterdir())) == 1
    assert Ledger(tmp_path, SCHEMA).load().sort_by("path").to_pydict() == {"path": ["one", "two"], "value": ["c", "b"]}


def test_damaged_parts_are_moved_away_and_foreign_files_stay(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", SCHEMA)
    for path in ("one", "two"):
        ledger.add({"path": path, "value": "a"})
        ledger.flush()
    part = next((tmp_path / "ledger").iterdir())
    torn = tmp_path / "ledger" / f"part-{2:020d}-1.parquet"
    torn.write_bytes(part.read_bytes()[:-20])
    (tmp_path / "ledger" / "part-mine.parquet").write_bytes(b"")
    other = Ledger(tmp_path / "other", pa.schema({"path": pa.string(), "number": pa.int64()}))
    other.add({"path": "one", "number": 1})
    other.flush()
    foreign = next((tmp_path / "other").iterdir()).rename(tmp_path / "ledger" / f"part-{4:020d}-1.parquet")
    assert [row["path"] for row in ledger.load().to_pylist()] == ["one", "two"]
    assert ledger.damaged == [str(tmp_path / "damaged" / "ledger" / torn.name)]
    assert (tmp_path / "damaged" / "ledger" / torn.name).exists()
    names = {path.name for path in (tmp_path / "ledger").iterdir()}
    assert {"part-mine.parquet", foreign.name} < names
    assert len(names) == 3  # the two parts have become one


def test_a_part_whose_text_is_no_utf8_is_moved_away(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", SCHEMA)
    ledger.add({"path": "a plain name", "value": "a"})
    ledger.flush()
    part = next((tmp_path / "ledger").iterdir())
    part.write_bytes(part.read_bytes().replace(b"a plain name", b"a \xff\xfeain name"))
    assert ledger.load().to_pylist() == []
    assert ledger.damaged == [str(tmp_path / "damaged" / "ledger" / part.name)]


def test_rows_of_a_version_with_fewer_columns_are_read(tmp_path: Path) -> None:
    earlier = Ledger(tmp_path, SCHEMA)
    earlier.add({"path": "one", "value": "a"})
    earlier.flush()
    schema = SCHEMA.append(pa.field("more", pa.int64()))
    assert Ledger(tmp_path, schema).load().num_rows == 0
    ledger = Ledger(tmp_path, schema, added=["more"])
    assert ledger.load().to_pylist() == [{"path": "one", "value": "a", "more": None}]


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 600  # a busy machine takes long to start a process
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
