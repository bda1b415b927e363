import csv
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.fixtures.places import ROOT


@pytest.mark.slow
def test_position_writes_a_table_and_a_figure_and_nets_without_positions_see_no_order(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments", "position", "--variants", "none", "PEG", "--seeds", "3"]
    sizes = ["--epochs", "2", "--clips", "8", "8", "--workers", "1"]
    places = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, *sizes, *places], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "chance 50" in done.stdout
    assert (tmp_path / "out" / "position_pairs.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "out" / "position_pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["seed"], row["epoch"]) for row in rows] == [
        (variant, "3", epoch) for variant in ("none", "PEG") for epoch in ("1", "2")
    ]
    assert {"train_loss", "val_loss", "top1", "shuffled", "reversed", "cpu_seconds"} <= rows[0].keys()
    blind = rows[1]
    assert blind["top1"] == blind["shuffled"] == blind["reversed"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "variant", "columns"),
    [
        ("digits", "PEG before block 0", {"top1", "on a larger canvas", "enlarged"}),
        ("digits", "PEG, circular borders", {"top1", "on a larger canvas", "enlarged"}),
        ("design", "window of 3x3", {"quantity", "value"}),
    ],
)
def test_an_experiment_on_still_digits_writes_a_table_and_a_figure(
    tmp_path: Path, experiment: str, variant: str, columns: set[str]
) -> None:
    command = [sys.executable, "-m", "experiments", experiment, "--variants", variant, "--seeds", "0"]
    sizes = ["--epochs", "1", "--workers", "1", "--out", str(tmp_path)]
    done = subprocess.run([*command, *sizes], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{experiment}.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / f"{experiment}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert columns <= rows[0].keys()
    assert {row["variant"] for row in rows} == {variant}


def test_a_mistake_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(sys, "argv", ["findings", "position", "--clips", "8", "2", "--data", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        import_module("experiments.__main__").main()
    assert stop.value.code == "error: num_train=8, num_val=2: 'pairs' needs 8 videos or more in each"
