"""The command line as a user meets it: verbs, run folders, errors in one line, stops that continue."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from pyarrow import parquet

from mvit_video.cli import main
from mvit_video.cli.configs import find_config, with_found_configs
from mvit_video.cli.runs import claim_version, find_checkpoint, run_name
from mvit_video.data.digits import write_digits
from mvit_video.types import ConfigError

Run = Callable[..., int]

pytestmark = [
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    # Lightning calls what jsonargparse has renamed
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), num_train=16, num_val=8)


@pytest.fixture
def run(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a verb on `tiny.yaml` in an empty folder."""
    net = {
        "num_classes": 4, "num_frames": 2, "crop_size": 16, "depths": [1, 1], "embed_dim": 8,
        "patch": {"kernel": [1, 8, 8], "stride": [1, 8, 8]}, "pooling": {"stride_kv": [1, 1, 1]}, "dropout": 0.5,
    }  # fmt: skip
    config = {
        "seed_everything": 3,
        "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 2, "log_every_n_steps": 2},
        "model": {
            "net": {"class_path": "mvit_video.models.mvit", "init_args": net},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
            "schedule": {"warmup_epochs": 0.5},
            "label_smoothing": 0.1,
        },
        "data": {
            "train": str(digits / "train.csv"), "val": str(digits / "val.csv"), "crop_size": 16, "num_workers": 0,
            "clip": {"num_frames": 2, "sampling_rate": 8}, "views": {"num_clips": 2, "short_side": 16},
            "batch_size": 4,
        },
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)

    def run(verb: str, *words: str) -> int:
        return main([verb, "-c", "tiny.yaml", *words])

    return run


def test_help_version_and_models(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"]):
        assert main(words) == 0
        assert "mvit-video fit -c configs/demo.yaml" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mvit-video 0.")
    assert main(["models", "mvit_b_16*"]) == 0
    assert "36.61 M" in capsys.readouterr().out
    for verb in ("fit", "validate", "test", "models"):
        assert main([verb, "--help"]) == 0
        printed = capsys.readouterr().out
        assert f"mvit-video {verb}" in printed
        assert printed.startswith("usage: mvit-video ")


def test_help_is_quick_because_it_loads_neither_torch_nor_lightning() -> None:
    code = (
        "import sys; from mvit_video.cli import main; main(['--help']); "
        "print(sorted({'torch', 'lightning', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_module_is_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "mvit_video", "fot"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: there is no verb 'fot'; did you mean fit?\n")


def test_fit_then_test(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit") == 0
    folder = tmp_path / "runs" / "tiny" / "version_0"
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    assert {"config.yaml", "metrics.csv", "run.json"} <= {path.name for path in folder.iterdir()}
    assert list(folder.glob("events.out.tfevents.*"))
    assert json.loads((folder / "run.json").read_text())["seed"] == 3
    with (folder / "metrics.csv").open() as file:
        metrics = list(csv.DictReader(file))
    logged = {"lr", "train/loss", "train/top1", "train/clips_per_second", "val/loss", "val/top1", "val/top5"}
    assert logged <= metrics[0].keys()
    assert [float(row["val/top5"]) for row in metrics if row["val/top5"]] == [100.0, 100.0]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]

    assert run("test", "--ckpt_path", "best") == 0
    printed = capsys.readouterr().out
    assert "2 clips x 1 crop" in printed
    assert "8 of 8" in printed
    table = parquet.read_table(tmp_path / "runs" / "tiny" / "version_1" / "predictions.parquet")
    assert table.num_rows == 8
    assert json.loads((tmp_path / "runs/tiny/version_1/run.json").read_text())["checkpoint"] == str(
        Path("runs/tiny/version_0/checkpoints/best.ckpt")
    )
    assert run("validate", "--ckpt_path", "last") == 0
    assert "val/top1" in capsys.readouterr().out


def test_saved_config_repeats_the_run(run: Run, tmp_path: Path) -> None:
    assert run("fit", "--trainer.max_epochs", "1", "--trainer.default_root_dir", "elsewhere") == 0
    saved = "elsewhere/tiny/version_0/config.yaml"
    assert main(["fit", "-c", saved]) == 0
    weights = [
        torch.load(f"elsewhere/tiny/version_{i}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for i in range(2)
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--data.batch_size=many"], 2, "data.batch_size: Expected a <class 'int'>. Got value: many"),
        (["--data.batchsize=1"], 2, "unrecognized arguments: --data.batchsize=1; did you mean data.batch_size.$"),
        (["--model.schedule.warm=1"], 2, "unrecognized arguments: --model.schedule.warm=1"),
        (["--model.net.widht=1"], 2, "model.net: .* Option 'widht' is not accepted"),
        (["--model.net.embeddim=1"], 2, "model.net: .* Option 'embeddim' is not accepted; did you mean embed_dim.$"),
        (["-c", "wrong.yaml"], 2, "data.batchsize: there is no such key; did you mean data.batch_size.$"),
        (["-c", "nowhere.yaml"], 2, "-c nowhere.yaml: there is no such file"),
        (["--data.clip.num_frames=3"], 2, "data.clip.num_frames=3 but model.net.num_frames=2: set both to the same"),
        (["--data.train=nowhere.csv"], 2, "data.train: there is no nowhere.csv"),
        (["--ckpt_path=nowhere.ckpt"], 2, "--ckpt_path nowhere.ckpt: there is no such file"),
        (["--ckpt_path=last"], 2, r"--ckpt_path last: there is no version_\*/checkpoints/last.ckpt under runs/tiny"),
        (["--trainer.max_epochs=-1"], 2, "trainer.max_epochs=-1 needs trainer.max_steps"),
        (["--trainer.default_root_dir=wrong.yaml"], 2, "trainer.default_root_dir: .* wrong.yaml/tiny .Not a dir"),
        (["--ckpt_path=wrong.yaml"], 1, "wrong.yaml: truncated or not a checkpoint"),
        (["--weights_only=false"], 2, "unrecognized arguments: --weights_only=false"),
        (["--data.val=broken.csv"], 1, r"\S*broken.mp4: "),
    ],
)  # fmt: skip
def test_user_mistake_is_one_line(
    run: Run,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    (tmp_path / "wrong.yaml").write_text("data: {batchsize: 3}")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    rows = [line.replace("val/", f"{digits}/val/", 1) for line in (digits / "val.csv").read_text().splitlines()]
    (tmp_path / "broken.csv").write_text("\n".join([*rows, "broken.mp4," + rows[1].split(",")[1]]))
    assert run("fit", *words) == code
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert re.match(f"error: {message}", errors[0])
    if code == 2 or "--ckpt_path=wrong.yaml" in words:
        assert not list(tmp_path.rglob("version_*"))


def test_debug_shows_the_traceback(run: Run) -> None:
    with pytest.raises(ConfigError, match="num_frames=3"):
        run("fit", "--debug", "--data.clip.num_frames=3")


class Spy(Callback):
    """Remembers the trainer, and raises Ctrl-C at (epoch, batch)."""

    trainer: Trainer
    at: tuple[int, int] | None = None

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        Spy.trainer = trainer
        if (trainer.current_epoch, batch_idx) == Spy.at:
            raise KeyboardInterrupt


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> type[Spy]:
    from mvit_video.cli import trainer

    monkeypatch.setattr(trainer.VideoCLI, "_callbacks", _with_spy(trainer.VideoCLI._callbacks))
    monkeypatch.setattr(Spy, "at", None)
    return Spy


def _with_spy(callbacks: Callable[[Any], list[Callback]]) -> Callable[[Any], list[Callback]]:
    return lambda cli: [Spy(), *callbacks(cli)]


def test_flags_and_yaml_win_over_the_checkpoint(run: Run, spy: type[Spy], tmp_path: Path) -> None:
    assert run("fit", "--trainer.max_epochs=1") == 0
    path = tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"] = {
        "label_smoothing": 0.2,
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
    torch.save(checkpoint, path)
    assert run("fit", f"--ckpt_path={path}", "--model.label_smoothing=0.7") == 0
    assert spy.trainer.lightning_module.label_smoothing == 0.7
    saved = yaml.safe_load((tmp_path / "runs/tiny/version_1/config.yaml").read_text())
    assert saved["model"]["label_smoothing"] == 0.7
    assert saved["ckpt_path"] is None
    assert json.loads((tmp_path / "runs/tiny/version_1/run.json").read_text())["checkpoint"] == str(path)


def test_skipped_videos_are_listed(run: Run, digits: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = (digits / "train.csv").read_text().replace("train/", f"{digits}/train/").splitlines()
    damaged = bytearray(Path(rows[1].split(",")[0]).read_bytes())
    start = damaged.find(b"mdat") + 44
    damaged[start : start + 1500 : 7] = bytes(255 - byte for byte in damaged[start : start + 1500 : 7])
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    label = rows[1].split(",")[1]
    (tmp_path / "broken.csv").write_text("\n".join([*rows, f"broken.mp4,{label}", f"damaged.mp4,{label}"]))
    data = ("--data.train=broken.csv", "--data.batch_size=1", "--data.on_error=skip", "--data.max_failure_rate=0.2")
    assert run("fit", *data) == 0
    with (tmp_path / "runs/tiny/version_0/failures.csv").open() as file:
        failures = list(csv.DictReader(file))
    assert {failure["path"] for failure in failures} == {"broken.mp4", "damaged.mp4"}
    printed = capfd.readouterr()
    assert printed.out.count("videos failed so far: ") == 1
    assert "videos failed so far: 2, listed in runs/tiny/version_0/failures.csv" in printed.out
    assert "[h264" not in printed.err


@pytest.mark.parametrize("at", [(0, 1), (1, 2)])
def test_stopped_and_continued_run_equals_one_run(
    run: Run, spy: type[Spy], tmp_path: Path, capsys: pytest.CaptureFixture[str], at: tuple[int, int]
) -> None:
    assert run("fit", "--trainer.default_root_dir=whole") == 0
    spy.at = at
    assert run("fit") == 130
    stopped = capsys.readouterr().err.splitlines()
    assert stopped[-1] == (
        "stopped; the same command with --ckpt_path last goes on from runs/tiny/version_0/checkpoints/last.ckpt"
    )
    spy.at = None
    assert run("fit", "--ckpt_path", "last") == 0
    whole = torch.load("whole/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    continued = torch.load("runs/tiny/version_1/checkpoints/last.ckpt", weights_only=True)
    assert continued["global_step"] == whole["global_step"] == 8
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, continued["state_dict"][name]), name


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stop_is_saved_although_workers_hear_the_signal_too(run: Run, tmp_path: Path, signum: int, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mvit_video", "fit", "-c", "tiny.yaml", "--trainer.max_epochs=999",
         "--data.num_workers=1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch 1"):
        assert process.poll() is None
    os.killpg(process.pid, signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.splitlines()[-1].startswith("stopped; the same command with --ckpt_path last")
    assert "Traceback" not in errors
    assert (tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt").is_file()


@pytest.mark.slow
def test_two_processes_train_together_and_score_as_one(run: Run, digits: Path, tmp_path: Path) -> None:
    rows = (digits / "val.csv").read_text().replace("val/", f"{digits}/val/").splitlines()
    Path("uneven.csv").write_text("\n".join(rows[:-1]))  # 7 videos: 2 batches and 1
    config = yaml.safe_load(Path("tiny.yaml").read_text())
    config["data"] |= {"val": "uneven.csv", "batch_size": 3}
    Path("tiny.yaml").write_text(yaml.safe_dump(config))

    def in_two_processes(*words: str) -> None:
        command = [sys.executable, "-m", "mvit_video", *words, "-c", "tiny.yaml", "--trainer.devices=2"]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "Grad strides" not in done.stderr

    in_two_processes("fit", "--trainer.max_epochs=1")
    in_two_processes("test", "--ckpt_path=last")
    assert run("test", "--ckpt_path=last") == 0
    pair, one = (parquet.read_table(f"runs/tiny/version_{i}/predictions.parquet") for i in (1, 2))
    assert pair.equals(one)


def test_config_falls_back_to_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packaged = tmp_path / "package"
    packaged.mkdir()
    (packaged / "demo.yaml").touch()
    monkeypatch.setattr("mvit_video.cli.configs.PACKAGED_CONFIGS", packaged)
    assert find_config("configs/demo.yaml") == find_config("demo.yaml") == str(packaged / "demo.yaml")
    with pytest.raises(ConfigError, match=r"-c other/demo.yaml: there is no such file; the package has .*demo.yaml"):
        find_config("other/demo.yaml")
    shutil.copytree(packaged, tmp_path / "configs")
    assert find_config("configs/demo.yaml") == "configs/demo.yaml"


def test_a_config_stands_on_its_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in [("a", "x: 1"), ("b", "base: a.yaml"), ("c", "base: b.yaml"), ("bad", "base: none.yaml")]:
        (tmp_path / "configs").mkdir(exist_ok=True)
        (tmp_path / "configs" / f"{name}.yaml").write_text(text)
    words = with_found_configs(["fit", "-c", "configs/c.yaml", "--x", "1", "--config=configs/a.yaml"])
    files = ["configs/a.yaml", "configs/b.yaml", "configs/c.yaml"]
    bases = [word for file in files for word in ("--config", file)]
    assert words == ["fit", *bases, "--x", "1", "--config", "configs/a.yaml"]
    with pytest.raises(ConfigError, match=r"base: none.yaml: there is no configs/none.yaml"):
        with_found_configs(["fit", "-c", "configs/bad.yaml"])
    (tmp_path / "configs" / "a.yaml").write_text("base: c.yaml")
    with pytest.raises(ConfigError, match=r"base: configs/c.yaml is a delta on itself"):
        with_found_configs(["fit", "-c", "configs/c.yaml"])
    with pytest.raises(ConfigError, match="--base is a key of config files"):
        with_found_configs(["fit", "--base=configs/a.yaml"])
    (tmp_path / "configs" / "a.yaml").write_text("base: [1]")
    with pytest.raises(ConfigError, match=r"base must name a config file, got \[1\]"):
        with_found_configs(["fit", "-c", "configs/a.yaml"])


@pytest.mark.parametrize(
    ("configs", "name"),
    [
        ([], "default"),
        (["configs/base.yaml", "configs/mvit_b_k400.yaml"], "mvit_b_k400"),
        (["runs/demo/version_3/config.yaml"], "demo"),
        (["config.yaml"], "config"),
    ],
)
def test_run_is_named_after_its_config(configs: list[str], name: str) -> None:
    assert run_name(configs) == name


def test_versions_are_claimed_once(tmp_path: Path) -> None:
    root = tmp_path / "runs" / "demo"
    assert [claim_version(root).name for _ in range(3)] == ["version_0", "version_1", "version_2"]
    (root / "version_1").rmdir()
    (root / "version_11x").mkdir()
    assert claim_version(root).name == "version_3"


def test_last_is_the_newest_of_all_versions(tmp_path: Path) -> None:
    for version, age in ((9, 3), (10, 1), (11, 2)):
        path = tmp_path / f"version_{version}" / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True)
        zipfile.ZipFile(path, "w").close()
        os.utime(path, (1000 - age, 1000 - age))
    assert find_checkpoint("last", tmp_path).parts[-3] == "version_10"
