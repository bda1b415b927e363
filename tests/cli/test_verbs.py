"""The command line as a user meets it: verbs, run folders, errors in one line."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pyarrow import parquet

from mvit_video.checkpoints import build_model
from mvit_video.cli import main
from mvit_video.models.published import TrainingFacts
from mvit_video.types import ConfigError
from tests.fixtures.training import Run

pytestmark = [
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    # Lightning calls what jsonargparse has renamed
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


def test_help_version_and_models(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"]):
        assert main(words) == 0
        assert "mvit-video fit -c configs/demo.yaml" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mvit-video 0.")
    assert main(["models", "mvit_b_16*"]) == 0
    assert "36.61" in capsys.readouterr().out
    for verb in ("fit", "validate", "test", "models"):
        assert main([verb, "--help"]) == 0
        printed = capsys.readouterr().out
        assert f"mvit-video {verb}" in printed
        assert printed.startswith("usage: mvit-video ")


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
    logged = {"lr", "train/loss", "train/loss_epoch", "train/top1", "train/clips_per_second"}
    logged |= {"val/loss", "val/top1"}
    assert logged <= metrics[0].keys()
    assert "val/top5" not in metrics[0]  # of four classes
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    rows = [row for row in metrics if row["val/top1"]]
    best = max(rows, key=lambda row: (float(row["val/top1"]), -float(row["val/loss"])))
    score, loss = float(best["val/top1"]), float(best["val/loss"])
    assert printed[-2] == f"best.ckpt: epoch {int(best['epoch']) + 1} (val/top1 {score:.2f}, val/loss {loss:.4f})"
    assert printed[-3] == "run folder: runs/tiny/version_0"
    assert printed[-1] == "test it: mvit-video test -c runs/tiny/version_0/config.yaml --ckpt_path best"
    assert not (folder / "hparams.yaml").exists()  # which Lightning leaves empty

    assert main(printed[-1].split()[3:]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("checkpoint: runs/tiny/version_0/checkpoints/best.ckpt\n")
    assert printed.endswith("report: mvit-video report runs/tiny/version_1\n")
    assert "2 clips x 1 crop" in printed
    assert "8 of 8" in printed
    table = parquet.read_table(tmp_path / "runs" / "tiny" / "version_1" / "predictions.parquet")
    assert table.num_rows == 8
    assert json.loads((tmp_path / "runs/tiny/version_1/run.json").read_text())["checkpoint"] == str(
        Path("runs/tiny/version_0/checkpoints/best.ckpt")
    )
    assert run("validate", "--ckpt_path", "last", "--model.init_from=gone.pth") == 0  # weights of a new run alone
    assert "val/top1" in capsys.readouterr().out


@pytest.mark.slow
def test_a_checkpoint_is_that_of_the_run_and_fits_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    own = "runs/tiny/version_0/config.yaml"
    for embed_dim in (8, 16):
        assert run("fit", "--trainer.max_epochs=1", f"--model.net.embed_dim={embed_dim}") == 0
    capsys.readouterr()
    assert main(["test", "-c", own, "--ckpt_path", "best"]) == 0
    assert capsys.readouterr().out.startswith("checkpoint: runs/tiny/version_0/checkpoints/best.ckpt\n")
    assert run("test", "--ckpt_path", "best") == 1
    told = capsys.readouterr().err
    assert "runs/tiny/version_1/checkpoints/best.ckpt holds another model than model.net: 50 tensors differ" in told
    assert told.endswith("runs/tiny/version_1/config.yaml\n")
    assert main(["fit", "-c", own, "--ckpt_path", "last"]) == 2
    assert capsys.readouterr().err == (
        "error: runs/tiny/version_0/checkpoints/last.ckpt has been trained for 1 epochs, and trainer.max_epochs=1: "
        "nothing is left to train; raise trainer.max_epochs to continue\n"
    )
    assert len(list(Path("runs/tiny").iterdir())) == 3  # refused runs leave no folder


def test_a_checkpoint_alone_knows_the_clips_that_it_was_trained_on(run: Run, tmp_path: Path) -> None:
    """Also outside of its run folder, where no config tells."""
    assert run("fit", "--trainer.max_epochs=1", "--data.input.mean=[0.1,0.2,0.3]", "--data.input.std=[1,1,2]") == 0
    moved = Path("runs/tiny/version_0/checkpoints/best.ckpt").rename(tmp_path / "moved.ckpt")
    assert main(["convert", str(moved), "net.safetensors", "--to", "mvit_video"]) == 0
    for file in (moved, "net.safetensors"):
        report = build_model(checkpoint=file).load_report
        assert report is not None
        assert report.facts == TrainingFacts((0.1, 0.2, 0.3), (1.0, 1.0, 2.0), sampling_rate=8)
        assert not report.assumed


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


def test_saved_config_works_from_any_folder(
    run: Run, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(digits)
    (digits / "tiny.yaml").write_text((tmp_path / "tiny.yaml").read_text())
    place = f"--trainer.default_root_dir={tmp_path}/runs"
    assert run("fit", place, "--data.train=train.csv", "--data.val=val.csv", "--trainer.max_epochs=1") == 0
    monkeypatch.chdir(tmp_path)
    assert main(["validate", "-c", "runs/tiny/version_0/config.yaml", "--ckpt_path", "last"]) == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--data.loading.batch_size=many"], 2, "data.loading.batch_size=many: expected a whole number$"),
        (["--data.cilp=1"], 2, "data.cilp: there is no such key; did you mean data.clip.$"),
        (["--model.schedule.warm=1"], 2, "model.schedule.warm: there is no .* mean model.schedule.warmup_epochs.$"),
        (["--model.net.widht=1"], 2, "model.net.widht: there is no such key"),
        (["--model.net.embeddim=1"], 2, "model.net.embeddim: there is no such key; did you mean embed_dim.$"),
        (["-c", "wrong.yaml"], 2, r"\S*wrong.yaml: data.cilp: there is no such key; did you mean data.clip.$"),
        (["-c", "nowhere.yaml"], 2, "-c nowhere.yaml: there is no such file"),
        (["--data.clip.num_frames=3"], 2, "data.clip.num_frames=3 but model.net.num_frames=2: set both to the same"),
        (["--data.train=nowhere.csv"], 2, "data.train: there is no nowhere.csv"),
        (["--data.train=wrong.yml"], 2, "data.train: there is no wrong.yml; did you mean wrong.yaml.$"),
        (["--data.train=null", "--data.val=null", "--data.root=wrong.yam"], 2, "data.root: .* mean wrong.yaml.$"),
        (["--data.classes.names=none.txt"], 2, "data.classes.names: there is no file none.txt; give one with a"),
        (["--data.batch_size=1"], 2, "data.batch_size is now data.loading.batch_size$"),
        (["--data.corruption.kind=blur"], 2, "data.corruption.kind is now data.views.corruption.kind$"),
        (["-c", "before.yaml"], 2, r"\S*before.yaml: data.class_names is now data.classes.names; .*size is"),
        (["-c", "delta.yaml"], 2, r"\S*before.yaml: data.class_names is now data.classes.names; "),
        (["--data.root=."], 2, r"data.root=.: there is no train/.* --data.train null"),
        (["--data.root=wrong.yam"], 2, "data.root: there is no wrong.yam; did you mean wrong.yaml.$"),
        (["--model.init_from=nowhere.pth"], 2, "model.init_from.path=nowhere.pth: there is no such file or folder"),
        (["--model.net=MVIT_B_16x4"], 2, "model.net: there is no model 'MVIT_B_16x4'; did you mean mvit_b_16x4.$"),
        (["--model.optimizer.init_args.lr=x"], 2, "model.optimizer.lr=x: expected a number"),
        (["--model.optimizer.init_args.lrr=1"], 2, "model.optimizer.lrr: there is no such key; did you mean lr.$"),
        (["--model.mixing.mixup_alpha=x"], 2, "model.mixing.mixup_alpha=x: expected a number"),
        (["--trainer.logger=nowhere"], 2, "trainer.logger=nowhere: expected the import path of a class or function"),
        (["--data.val_views=rando"], 2, "data.val_views=rando: expected one of random; did you mean random.$"),
        (["-c", "empty.yaml"], 2, "empty.yaml: must hold keys such as model, data and trainer, got nothing$"),
        (["--ckpt_path=beste"], 2, "--ckpt_path beste: there is no such file; did you mean best.$"),
        (["--ckpt_path=."], 2, r"--ckpt_path .: a folder; give one of its checkpoints .it has none.$"),
        (["--trainer.devices=0"], 2, "trainer.devices=0: .* value is not a valid input using cpu accelerator"),
        (["--trainer.precision=bf16-mixd"], 2, "trainer.precision=bf16-mixd: expected .* did you mean bf16-mixed.$"),
        (["--trainer.accelerator=mps"], 2, "trainer.accelerator=mps: torch finds none .* set it to auto or cpu$"),
        (["--trainer.strategy=dpp"], 2, r"trainer.strategy=dpp: You selected an invalid strategy name: .*, \.\.\.$"),
        (["stray.yaml"], 2, "unrecognized arguments: stray.yaml; a config is given as -c stray.yaml$"),
        (["--ckpt_path=nowhere.ckpt"], 2, "--ckpt_path nowhere.ckpt: there is no such file"),
        (["--ckpt_path=last"], 2, r"--ckpt_path last: runs/tiny/version_\* has no checkpoint; train first"),
        (["--trainer.max_epochs=-1"], 2, "trainer.max_epochs=-1 needs trainer.max_steps"),
        (["--trainer.default_root_dir=wrong.yaml"], 2, "trainer.default_root_dir: .* wrong.yaml/tiny .Not a dir"),
        (["--ckpt_path=wrong.yaml"], 1, "wrong.yaml: not a checkpoint of a run; expected"),
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
    (tmp_path / "wrong.yaml").write_text("data: {cilp: 3}")
    (tmp_path / "before.yaml").write_text("data: {class_names: null, batch_size: 3}")
    (tmp_path / "delta.yaml").write_text("base: before.yaml")
    (tmp_path / "empty.yaml").touch()
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


def test_skipped_videos_are_listed(run: Run, digits: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = (digits / "train.csv").read_text().replace("train/", f"{digits}/train/").splitlines()
    damaged = bytearray(Path(rows[1].split(",")[0]).read_bytes())
    start = damaged.find(b"mdat") + 44
    damaged[start : start + 1500 : 7] = bytes(255 - byte for byte in damaged[start : start + 1500 : 7])
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    label = rows[1].split(",")[1]
    (tmp_path / "broken.csv").write_text("\n".join([*rows, f"broken.mp4,{label}", f"damaged.mp4,{label}"]))
    data = (
        "--data.train=broken.csv",
        "--data.loading.batch_size=1",
        "--data.loading.on_error=skip",
        "--data.loading.max_failure_rate=0.2",
    )
    assert run("fit", *data) == 0
    with (tmp_path / "runs/tiny/version_0/failures.csv").open() as file:
        failures = list(csv.DictReader(file))
    assert {failure["path"] for failure in failures} == {"broken.mp4", "damaged.mp4"}
    printed = capfd.readouterr()
    assert printed.out.count("videos failed so far: ") == 1
    assert "videos failed so far: 2, listed in runs/tiny/version_0/failures.csv" in printed.out
    assert "[h264" not in printed.err


LIGHTNING = "lightning.pytorch"
FAILING = """
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger

class Hungry(Callback):
    def on_train_batch_start(self, trainer, task, batch, batch_idx):
        torch.empty(10**15)

class HungryGPU(Callback):
    def on_test_batch_start(self, trainer, task, batch, batch_idx):
        self.on_train_batch_start(trainer, task, batch, batch_idx)

    def on_train_batch_start(self, trainer, task, batch, batch_idx):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total of ...")

class BusyGPU(Callback):
    def on_train_batch_start(self, trainer, task, batch, batch_idx):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

class Missing(CSVLogger):
    def __init__(self, save_dir: str = "x") -> None:
        raise ModuleNotFoundError("Requirement 'no_such_package>=1' not met. HINT: Try running `pip install it`")
"""


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (
            [f"--trainer.callbacks={LIGHTNING}.callbacks.EarlyStopping", "--trainer.callbacks.monitor=val/top1",
             "--data.val=null"],
            2, "trainer.callbacks: EarlyStopping monitors val/top1, but this run has no validation: set data.val, or "
            "monitor train/loss_epoch",
        ),
        (
            [f"--trainer.callbacks={LIGHTNING}.callbacks.EarlyStopping", "--trainer.callbacks.monitor=val/acc"],
            2, "trainer.callbacks: EarlyStopping monitors val/acc, which nothing logs; set monitor to one of val/top1.*"
        ),
        (
            [f"--trainer.callbacks={LIGHTNING}.callbacks.LearningRateFinder"],
            2, "trainer.callbacks: LearningRateFinder needs a model with an attribute lr, the learning rate here is "
            "model.optimizer.init_args.lr: remove the callback, and try several values",
        ),
        (
            ["--trainer.callbacks=failing.Hungry"],
            1, r"memory ran out \(tried to allocate 4000000000000000 bytes\): lower data.loading.batch_size=4 and "
            "raise trainer.accumulate_grad_batches as much, set trainer.precision=bf16-mixed, or "
            "model.speed.activation_checkpointing=true",
        ),
        (
            ["--trainer.callbacks=failing.HungryGPU"],
            1, r"GPU memory ran out \(tried to allocate 20.00 GiB\): lower data.loading.batch_size=4 and raise .*",
        ),
        (
            ["--trainer.callbacks=failing.BusyGPU"],
            1, r"GPU memory ran out: lower data.loading.batch_size=4 and raise .*",
        ),
        (
            ["--trainer.logger=failing.Missing"],
            2, "failing.Missing: Requirement 'no_such_package>=1' not met. HINT: Try running `pip install it`",
        ),
    ],
    ids=["no validation", "no such metric", "rate finder", "memory", "memory of a GPU", "busy GPU", "package"],
)  # fmt: skip
def test_callbacks_loggers_and_memory_that_fail_are_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: list[str],
    exit_code: int, message: str,
) -> None:  # fmt: skip
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "failing", raising=False)
    assert run("fit", "--trainer.max_epochs=1", *words) == exit_code
    assert re.fullmatch(f"error: {message}", capfd.readouterr().err.splitlines()[-1])


@pytest.mark.filterwarnings("ignore:without --ckpt_path")
def test_robustness_that_runs_out_of_memory_names_its_batch_size(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "failing", raising=False)
    assert run("robustness", "--studies", "views", "--trainer.callbacks=failing.HungryGPU") == 1
    assert (
        capfd.readouterr()
        .err.splitlines()[-1]
        .endswith(": lower data.loading.test_batch_size=1 or set trainer.precision=bf16-mixed")
    )


def test_a_verb_that_runs_out_of_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hungry(words: list[str]) -> int:
        torch.empty(10**15)
        return 0

    monkeypatch.setattr("mvit_video.cli.models.run", hungry)
    assert main(["models"]) == 1
    assert capsys.readouterr().err == (
        "error: memory ran out (tried to allocate 4000000000000000 bytes): lower the batch size, or the number of "
        "workers\n"
    )
    with pytest.raises(RuntimeError):
        main(["models", "--debug"])
