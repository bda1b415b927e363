"""Extraction on one machine goes on after kills, tells of failures, and leaves each video's rows once."""

import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console

from mvit_video.features import Extractor, ExtractSettings, Video, VideoFeatures
from mvit_video.features.decoding import Chunk
from mvit_video.features.engines.local import extract_locally
from mvit_video.features.engines.streams import Whole, read_in_processes
from mvit_video.features.extraction import Outcome, Summary, extract_videos
from mvit_video.features.inputs import find_inputs
from mvit_video.features.manifest import claimed
from mvit_video.jobs import JobStopped, WorkFailure
from mvit_video.types import ConfigError
from tests.fixtures.data import MakeDigits
from tests.fixtures.features import NumListed
from tests.fixtures.processes import Start


@pytest.fixture(scope="session")
def many(make_digits: MakeDigits) -> Path:
    """40 videos in 4 folders."""
    return make_digits(4, 40) / "val"


@pytest.fixture
def folder(many: Path, tmp_path: Path) -> Path:
    """Five of them, which a test may change."""
    for number, path in enumerate(sorted(many.glob("*/*.mp4"))[:5]):
        (tmp_path / "videos").mkdir(exist_ok=True)
        shutil.copyfile(path, tmp_path / "videos" / f"{number}.mp4")
    return tmp_path / "videos"


@pytest.fixture
def run(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., Summary]:
    """Extracts from a source to the folder `out`, a window per video."""

    def extract(source: Path, stop_after: int | None = None, format: str = "parquet", **settings: str) -> Summary:
        console = Console(file=sys.stdout)
        extractor = Extractor(ExtractSettings(str(tiny_checkpoint), **({"window": "32"} | settings)))

        def engine(videos: Iterator[Video], tell: Callable[[int], None]) -> Iterator[Outcome]:
            for number, outcome in enumerate(extract_locally(videos, extractor, 1, 60, tell)):
                if number == stop_after:
                    raise KeyboardInterrupt
                yield outcome

        inputs = find_inputs([str(source)])
        return extract_videos(inputs, extractor, engine, tmp_path / "out", format, console)  # type: ignore[arg-type]

    return extract


def rows_of(out: Path) -> pa.Table:
    table = parquet.read_table(out / "features")
    return table.sort_by([("path", "ascending"), ("window", "ascending")])


def manifest_of(out: Path) -> dict[str, dict]:
    return {Path(row["path"]).name: row for row in parquet.read_table(out / "manifest.parquet").to_pylist()}


@pytest.mark.slow
def test_kills_cost_no_video_and_leave_no_row_twice(
    run: Callable[..., Summary], start_slowly: Start, num_listed: NumListed,
    tiny_checkpoint: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    whole, killed = tmp_path / "out", tmp_path / "killed"
    words = ["extract", f"{many}", "--model", f"{tiny_checkpoint}", "--window", "16", "--stride", "8"]
    run(many, window="16", stride="8")
    expected = rows_of(whole)
    done = [0]
    for _ in range(2):
        process = start_slowly(*words, "--workers", "1", "--out", f"{killed}")
        # at once when something new is in the ledger, while the next videos are on their way
        while process.is_alive() and num_listed(killed) <= done[-1]:
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        done.append(num_listed(killed))
    assert 0 < done[1] < done[2] < 40
    shutil.rmtree(whole)
    killed.rename(whole)
    assert run(many, window="16", stride="8").num_before == done[2]
    found = rows_of(whole)
    assert found.drop_columns(["feature"]).equals(expected.drop_columns(["feature"]))
    vectors = [np.stack(table["feature"].to_numpy()) for table in (found, expected)]
    np.testing.assert_allclose(*vectors, rtol=1e-4, atol=1e-5)
    assert len(manifest_of(whole)) == 40
    assert {row["status"] for row in manifest_of(whole).values()} == {"ok"}


def test_what_a_kill_left_unlisted_is_removed(run: Callable[..., Summary], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder)
    expected = rows_of(out)
    part = next((out / "features").glob("part-*.parquet"))
    # a part whose videos the ledger does not know, and one that was joined from others which are still there
    shutil.copyfile(part, out / "features" / "part-0.parquet")
    shutil.rmtree(out / "ledger")
    (folder / "4.mp4").unlink()
    summary = run(folder)
    assert (summary.num_extracted, summary.num_before) == (4, 0)
    assert rows_of(out).equals(expected.filter(pa.compute.not_equal(expected["path"], str(folder / "4.mp4"))))
    shutil.copyfile(next((out / "features").glob("part-*.parquet")), out / "features" / "part-0.parquet")
    assert run(folder).num_before == 4
    assert [Path(path).name for path in rows_of(out)["path"].to_pylist()] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]


@pytest.mark.parametrize("format", ["parquet", "npy", "hdf5"])
def test_lost_and_damaged_features_are_extracted_again_in_one_line(
    run: Callable[..., Summary], folder: Path, tmp_path: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(folder, format=format)
    files = sorted(path for path in (out / "features").rglob("*") if path.suffix in (".parquet", ".npy", ".h5"))
    num_lost = 2 if format == "npy" else 5
    files[0].write_bytes(files[0].read_bytes()[:100])
    if format == "npy":
        files[1].unlink()
    capsys.readouterr()
    again = run(folder, format=format)
    assert (again.num_extracted, again.num_before) == (num_lost, 5 - num_lost)
    printed = capsys.readouterr().out
    assert f"features of {num_lost} videos are missing or damaged, {num_lost} extracted again; " in printed
    assert f" moved, the first to {out}/damaged/features/" in printed
    assert printed.count("\n") == 1
    assert run(folder, format=format).num_before == 5
    assert capsys.readouterr().out == ""
    shutil.rmtree(out / "features")
    assert run(folder, format=format).num_extracted == 5


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(
    run: Callable[..., Summary], folder: Path, tmp_path: Path
) -> None:
    for name in ("features/x/mine.npy", "features/part-1.h5", "features/part-1.parquet", "notes.txt"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_bytes(b"mine")
        with pytest.raises(ConfigError, match=r"^--out .*/out holds \w+(\.txt)? and no extract\.json: it is not"):
            run(folder, format="npy")
        assert (tmp_path / "out" / name).read_bytes() == b"mine"


def test_videos_that_a_format_cannot_keep_apart_are_refused_before_any_is_read(
    run: Callable[..., Summary], folder: Path, tmp_path: Path
) -> None:
    (folder / "0.mp4").rename(folder / "1.avi")
    with pytest.raises(ConfigError, match=r"/1\.mp4: .*/1\.npy is for the features of .*/1\.avi; give the two"):
        run(folder, format="npy")
    assert not (tmp_path / "out" / "features").exists()


def test_a_second_run_does_what_is_new_changed_or_failed(
    run: Callable[..., Summary], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    good = (folder / "0.mp4").read_bytes()
    (folder / "0.mp4").write_bytes(good[:200])
    first = run(folder)
    assert (first.num_extracted, first.num_failed, first.num_before) == (4, 1, 0)
    told = manifest_of(out)["0.mp4"]
    assert (told["status"], told["num_windows"]) == ("failed", 0)
    assert "cannot be decoded" in told["reason"]
    assert rows_of(out)["path"].to_pylist() == [str(folder / f"{number}.mp4") for number in range(1, 5)]
    before = rows_of(out)
    (folder / "0.mp4").write_bytes(good)
    (folder / "1.mp4").write_bytes((folder / "2.mp4").read_bytes())
    (folder / "new.mp4").write_bytes(good)
    second = run(folder)
    assert (second.num_extracted, second.num_failed, second.num_before) == (3, 0, 3)
    after = rows_of(out)
    assert [Path(path).name for path in after["path"].to_pylist()] == [*(f"{i}.mp4" for i in range(5)), "new.mp4"]
    one, two = (after["feature"][row].as_py() for row in (1, 2))
    assert one == two == before["feature"][1].as_py() != before["feature"][0].as_py()
    (folder / "3.mp4").write_bytes(b"broken now")
    third = run(folder)
    assert (third.num_extracted, third.num_failed, third.num_before) == (0, 1, 5)
    assert str(folder / "3.mp4") not in rows_of(out)["path"].to_pylist()
    assert manifest_of(out)["3.mp4"]["status"] == "failed"


def test_ctrl_c_leaves_a_manifest_and_the_same_call_goes_on(
    run: Callable[..., Summary], folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(JobStopped) as stopped:
        run(folder, stop_after=2)
    assert (stopped.value.num_done, stopped.value.num_items) == (2, 5)
    assert len(manifest_of(tmp_path / "out")) == 2
    assert run(folder).num_before == 2
    assert len(rows_of(tmp_path / "out")) == 5


def test_other_features_are_refused_in_the_same_folder(
    run: Callable[..., Summary], folder: Path, tmp_path: Path
) -> None:
    run(folder)
    with pytest.raises(
        ConfigError, match=r"^--out .*out holds other features \(window 32 there, 8 here; stride 32 there, 8 here\)"
    ):
        run(folder, window="8")
    with pytest.raises(ConfigError, match=r"\(format parquet there, npy here\)"):
        run(folder, format="npy")
    with (
        claimed(tmp_path / "out2", {"key": "a", "format": "npy"}),
        pytest.raises(ConfigError, match="another program extracts to this folder"),
        claimed(tmp_path / "out2", {"key": "a", "format": "npy"}),
    ):
        pass
    (tmp_path / "out" / "extract.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"extract\.json: not the record of an extraction"):
        run(folder)
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match="file: cannot be written to"),
        claimed(tmp_path / "file", {"key": "a", "format": "npy"}),
    ):
        pass


def test_a_lock_that_is_a_link_is_refused_and_its_target_untouched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "notes").write_text("of the user")
    (tmp_path / "out" / ".lock").symlink_to(tmp_path / "notes")
    record = {"key": "a", "format": "npy"}
    with pytest.raises(ConfigError, match=r"out/\.lock: cannot be written to"), claimed(tmp_path / "out", record):
        pass
    assert (tmp_path / "notes").read_text() == "of the user"


def test_a_full_disk_is_one_line_and_the_same_call_resumes(
    run: Callable[..., Summary], folder: Path, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    run(folder, format="hdf5")
    shutil.rmtree(tmp_path / "out" / "features")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # bytes of a file, and there is no more room
    try:
        with pytest.raises(ConfigError, match=r"^--out .*out: cannot be written to \(File too large\); the same"):
            run(folder, format="hdf5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "out").rglob("*.unfinished"))
    assert run(folder, format="hdf5").num_extracted == 5


def test_parts_of_a_video_are_videos_of_their_own(run: Callable[..., Summary], folder: Path, tmp_path: Path) -> None:
    annotations = folder / "parts.csv"
    annotations.write_text("path,label,start,end\n0.mp4,1,0,0.5\n0.mp4,0,0.5,1\n1.mp4,2,,\n")
    assert run(annotations).num_extracted == 3
    rows = rows_of(tmp_path / "out").select(["path", "video", "label", "start_frame"]).to_pylist()
    assert sorted(map(tuple, (row.values() for row in rows))) == [
        ("0.mp4", "0.mp4#t=0,0.5", 1, 0), ("0.mp4", "0.mp4#t=0.5,1", 0, 15), ("1.mp4", "1.mp4", 2, 0),
    ]  # fmt: skip
    assert run(annotations).num_before == 3


def test_short_videos_share_batches_and_keep_their_own_features(
    tiny_checkpoint: Path, many: Path, tmp_path: Path
) -> None:
    extractor = Extractor(ExtractSettings(str(tiny_checkpoint), window="8", batch_size=7))
    sizes: list[int] = []
    features_of = extractor.features_of
    extractor.features_of = lambda places: sizes.append(len(places)) or features_of(places)  # type: ignore[method-assign]
    videos = [Video(path.name, path) for path in sorted(many.glob("*/*.mp4"))[:4]]
    found = dict((video.path, outcome) for video, outcome in extract_locally(videos, extractor, 2, 60))
    assert sizes == [7, 7, 2]
    for video in videos:
        outcome = found[video.path]
        assert isinstance(outcome, VideoFeatures)
        np.testing.assert_allclose(outcome.feature, extractor.extract(video).feature, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("act", "kind", "reason"),
    [
        (signal.SIGKILL, "crash", "its process ended (SIGKILL, "),
        (signal.SIGSTOP, "time-out", "no heartbeat for 3 s"),
    ],
)
def test_a_process_that_dies_or_hangs_costs_its_video_alone(
    tiny_checkpoint: Path, many: Path, act: signal.Signals, kind: str, reason: str
) -> None:
    rule = Extractor(ExtractSettings(str(tiny_checkpoint))).rule
    paths = sorted(many.glob("*/*.mp4"))[:3]
    pieces = []

    def videos() -> Iterator[Video]:
        yield Video("first", paths[0])
        # the process is idle now, and gets the signal before its next video
        (process,) = active_children()
        assert process.pid is not None
        os.kill(process.pid, act)
        yield Video("second", paths[1])
        yield Video("third", paths[2])

    for piece in read_in_processes(videos(), rule, num_workers=1, limit_seconds=3):
        pieces.append((piece.video.path, piece.content))
    assert [path for path, _ in pieces] == ["first", "first", "second", "third", "third"]
    contents = [content for _, content in pieces]
    failure = contents.pop(2)
    assert isinstance(failure, WorkFailure)
    assert failure.kind == kind
    assert failure.reason.startswith(reason)
    assert [type(content) for content in contents] == [Chunk, Whole, Chunk, Whole]
