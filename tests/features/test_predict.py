"""`lightning predict`: the features of `mvit-video extract`, by a config."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import compute, parquet

from mvit_video.cli import main
from mvit_video.data.digits import write_digits
from mvit_video.features.store import load_features
from tests.fixtures.features import NumListed
from tests.fixtures.processes import Start, StartTwo

Run = Callable[..., int]
Output = pytest.CaptureFixture[str]
PREDICT = ("predict", "-c", "tiny.yaml", "--ckpt_path", "last")
WINDOWS = ("--features.window", "8", "--features.stride", "3")

# Lightning calls what jsonargparse has renamed
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


@pytest.fixture(scope="module")
def trained(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, its videos, and a run of it."""
    folder = tmp_path_factory.mktemp("trained")
    digits = write_digits(folder / "digits", num_train=8, num_val=4)
    net = {
        "num_classes": 4, "num_frames": 2, "crop_size": 16, "depths": [1, 1], "embed_dim": 8,
        "patch": {"kernel": [1, 8, 8], "stride": [1, 8, 8]}, "pooling": {"stride_kv": [1, 1, 1]},
    }  # fmt: skip
    config = {
        "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 1},
        "model": {
            "net": {"class_path": "mvit_video.models.mvit", "init_args": net},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
        },
        "data": {
            "train": str(digits / "train.csv"), "val": str(digits / "val.csv"),
            "clip": {"num_frames": 2, "sampling_rate": 8}, "views": {"num_clips": 2, "short_side": 16},
            "input": {"crop_size": 16, "mean": [0.4, 0.45, 0.5]}, "loading": {"batch_size": 4, "num_workers": 1},
        },
    }  # fmt: skip
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fit = start("fit", "-c", "tiny.yaml")
        fit.join(600)
    assert fit.exitcode == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `predict` on a copy of the trained run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").symlink_to(trained / "tiny.yaml")
    version = tmp_path / "runs" / "tiny" / "version_0"
    version.mkdir(parents=True)
    (version / "checkpoints").symlink_to(trained / "runs" / "tiny" / "version_0" / "checkpoints")
    (version / "config.yaml").symlink_to(trained / "runs" / "tiny" / "version_0" / "config.yaml")
    return lambda *words: main([*PREDICT, *words])


def only_folder() -> Path:
    (folder,) = Path("runs/tiny/features").iterdir()
    return folder


def rows_of(folder: Path) -> pa.Table:
    """All rows, sorted by video and window."""
    table = pa.concat_tables([parquet.read_table(part) for part in sorted((folder / "features").glob("*.parquet"))])
    return table.sort_by([("path", "ascending"), ("window", "ascending")])


def test_features_are_those_of_extract(trained: Path, run: Run, capsys: Output) -> None:
    assert run(*WINDOWS) == 0
    assert "4 of 4 videos extracted" in capsys.readouterr().out
    words = ["--model", "runs/tiny/version_0/checkpoints/last.ckpt", "--window", "8", "--stride", "3", "--workers", "1"]
    assert main(["extract", str(trained / "digits" / "orbit" / "val.csv"), *words, "--out", "extracted"]) == 0
    ours, theirs = only_folder(), Path("extracted")
    assert rows_of(ours).equals(rows_of(theirs))  # to the last bit
    told = {folder: json.loads((folder / "extract.json").read_text()) for folder in (ours, theirs)}
    differs = {name for name in told[ours] if told[ours][name] != told[theirs][name]}
    assert differs <= {"model", "checkpoint"}
    assert ours.name == f"pooled-{told[ours]['key'][:8]}"
    assert load_features(ours).class_names is not None
    record = json.loads(Path("runs/tiny/version_1/run.json").read_text())
    assert record["checkpoint"].endswith("last.ckpt")


@pytest.mark.parametrize(("precision", "layer"), [("bf16-mixed", "stage1"), ("32-true", "logits")])
def test_other_layers_and_half_precision(trained: Path, run: Run, precision: str, layer: str) -> None:
    assert run(*WINDOWS, "--trainer.precision", precision, "--features.layer", layer, "--features.num_crops", "3") == 0
    words = ["--model", "runs/tiny/version_0/checkpoints/last.ckpt", "--window", "8", "--stride", "3", "--workers", "1"]
    words += ["--layer", layer, "--precision", {"b": "bf16", "3": "fp32"}[precision[0]], "--crops", "3"]
    assert main(["extract", str(trained / "digits" / "orbit" / "val.csv"), *words, "--out", "extracted"]) == 0
    assert rows_of(only_folder()).equals(rows_of(Path("extracted")))


def test_a_second_run_does_what_is_left(trained: Path, run: Run, tmp_path: Path, capsys: Output) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    videos = sorted((trained / "digits" / "orbit" / "train").rglob("*.mp4"))
    for number, video in enumerate(videos[:3]):
        (folder / f"{number}.mp4").write_bytes(video.read_bytes())
    (folder / "bad.mp4").write_bytes(b"no video")
    words = ("--data.predict", str(folder), *WINDOWS, "--features.folder", "out")
    assert run(*words) == 1
    told = capsys.readouterr()
    assert "3 of 4 videos extracted" in told.out
    assert told.err.endswith("error: 1 of 4 videos have no features\n")
    manifest = parquet.read_table("out/manifest.parquet")
    failed = manifest.filter(compute.equal(manifest["status"], "failed")).to_pylist()
    assert [row["path"] for row in failed] == ["bad.mp4"]
    assert failed[0]["reason"]
    before = rows_of(Path("out"))
    assert set(before["label"].to_pylist()) == {None}
    (folder / "bad.mp4").write_bytes(videos[3].read_bytes())
    assert run(*words) == 0
    assert "1 of 4 videos extracted" in capsys.readouterr().out
    after = rows_of(Path("out"))
    assert after.filter(compute.is_in(after["path"], before["path"].combine_chunks())).equals(before)
    assert after.num_rows > before.num_rows
    assert run(*words) == 0
    assert "0 of 4 videos extracted" in capsys.readouterr().out
    assert rows_of(Path("out")).equals(after)
    assert run(*words, "--features.stride", "2") == 2
    assert "holds other features (stride 3 there, 2 here)" in capsys.readouterr().err


def test_npy_for_tools_of_temporal_localisation(run: Run) -> None:
    assert run(*WINDOWS, "--features.format", "npy") == 0
    files = sorted((only_folder() / "features").rglob("*.npy"))
    assert len(files) == 4
    told = json.loads(files[0].with_suffix(".json").read_text())
    assert np.load(files[0]).shape == (len(told["center_seconds"]), 16)
    assert told["actionformer"] | {"max_error_seconds": 0} == {
        "feat_stride": 3.0, "num_frames": 8.0, "default_fps": None, "max_error_seconds": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_several_processes_share_the_videos_and_repeat_none(trained: Path, run: Run, start_two: StartTwo) -> None:
    # the nine windows of a video: either way the same batches, for whose sizes kernels are chosen
    batch = ("--features.batch_size", "9")
    words = ("--data.predict", str(trained / "digits" / "orbit" / "train.csv"), *WINDOWS, *batch)
    assert run(*words) == 0
    alone = rows_of(only_folder())
    processes = start_two(*PREDICT, *words, "--features.folder", "two")
    for process in processes:
        process.join(600)
    told = Path("log.txt").read_text()
    assert [process.exitcode for process in processes] == [0, 0], told
    assert told.count("8 of 8 videos extracted") == 1
    rows = rows_of(Path("two"))
    assert rows.equals(alone)
    manifest = parquet.read_table("two/manifest.parquet")
    assert sorted(manifest["path"].to_pylist()) == sorted(set(alone["path"].to_pylist()))
    assert set(manifest["status"].to_pylist()) == {"ok"}


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on(
    trained: Path, run: Run, start_slowly: Start, num_listed: NumListed, tmp_path: Path, capsys: Output
) -> None:
    lines = (trained / "digits" / "orbit" / "train.csv").read_text().splitlines()
    video = trained / "digits" / "orbit" / lines[1].split(",")[0]
    (tmp_path / "many").mkdir()
    for number in range(40):
        (tmp_path / "many" / f"{number}.mp4").symlink_to(video)
    words = ("--data.predict", "many", "--features.window", "8", "--features.stride", "2", "--features.folder", "out")
    out = Path("out")

    def stop(by: signal.Signals, is_time: Callable[[int], bool]) -> str:
        """Stops a run when it is time; what the run said."""
        process = start_slowly(*PREDICT, *words)
        assert process.pid is not None
        while process.is_alive() and not is_time(process.pid):
            time.sleep(0.01)
        os.kill(process.pid, by)
        process.join(600)
        told = Path("log.txt").read_text()
        Path("log.txt").unlink()
        assert process.exitcode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[by], told
        return told

    assert "; the same command does the rest" in stop(signal.SIGINT, starts_processes)
    done = [num_listed(out)]
    assert "; the same command does the rest" in stop(signal.SIGTERM, lambda _: num_listed(out) > done[0])
    done.append(num_listed(out))
    stop(signal.SIGKILL, lambda _: num_listed(out) > done[1])
    done.append(num_listed(out))
    assert done[0] < done[1] < done[2] < 40
    assert run(*words) == 0
    assert f"{40 - done[2]} of 40 videos extracted" in capsys.readouterr().out
    rows = rows_of(out)
    assert len(compute.unique(rows["path"])) == 40
    pairs = pa.table({"path": rows["path"], "window": rows["window"]})
    assert pairs.group_by(["path", "window"]).aggregate([]).num_rows == rows.num_rows
    assert rows.num_rows % 40 == 0


def starts_processes(pid: int) -> bool:
    """Whether a process has started others."""
    return any(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--trainer.strategy", "ddp_spawn", "--trainer.devices", "2"],
            "trainer.strategy=ddp_spawn: predict runs only",
        ),
        (["--trainer.precision", "64-true"], "trainer.precision=64-true: features are extracted in one of 32-true"),
        (["--trainer.fast_dev_run", "true"], "trainer.fast_dev_run writes nothing"),
        (
            ["--features.window", "3x"],
            "features.window=3x: expected frames such as 64, or ",
        ),
        (["--features.layer", "stage4"], "layer stage4: the MViT has 2 stage(s)"),
        (["--features.windw", "3"], "features.windw"),
        (["--data.predict", "nowhere"], "data.predict: there is no nowhere"),
    ],
)
def test_mistakes_are_told_in_one_line(words: list[str], message: str, run: Run, capsys: Output) -> None:
    assert run(*words) == 2
    told = capsys.readouterr().err
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert message in line
    assert sorted(path.name for path in Path("runs/tiny").iterdir()) == ["version_0"]
