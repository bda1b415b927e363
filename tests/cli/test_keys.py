"""The short help of the verbs with a config states the parser's keys and defaults, and imports nothing slow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer

from mvit_video.cli import main
from mvit_video.cli.keys import DESCRIPTIONS, known_keys, short_help
from mvit_video.cli.predict import PredictCLI
from mvit_video.cli.robustness import RobustnessCLI, RobustnessTrainer
from mvit_video.cli.trainer import VideoCLI, run_cli

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
OF_THE_PARSER = {"help", "config", "print_config"}


class Parsed(Exception):
    """Ends a command line when its parser is made."""


@pytest.mark.parametrize(
    ("cli", "trainer", "verb"),
    [(VideoCLI, Trainer, "fit"), (PredictCLI, Trainer, "predict"), (RobustnessCLI, RobustnessTrainer, "robustness")],
)
def test_help_states_the_keys_and_defaults_of_the_parser(cli: Any, trainer: Any, verb: str) -> None:
    class Stopping(cli):
        def parse_arguments(self, parser: Any, args: Any) -> None:
            raise Parsed(parser)

    with pytest.raises(Parsed) as stop:
        run_cli(Stopping, trainer, [verb])
    (verbs,) = (action.choices for action in stop.value.args[0]._actions if isinstance(action.choices, dict))
    actions = {action.dest: action for action in verbs[verb]._actions if not action.dest.endswith("help")}
    groups = {key.rpartition(".")[0] for key in actions} | {"data", "model", "features"}
    shown = {key: value for key, value in known_keys(verb).items() if "init_args" not in key}
    assert shown.keys() <= actions.keys()
    missing = actions.keys() - shown.keys() - groups - OF_THE_PARSER
    assert {key for key in missing if not key.startswith("trainer")} == set()
    for key, default in shown.items():
        if default == "required":
            assert actions[key].required, key
        elif key == "data.val_views":
            assert actions[key].default["num_clips"] == 1
        else:
            found = actions[key].default
            found = found.as_dict() if isinstance(found, Namespace) else found
            assert yaml.safe_load(default) == (list(found) if isinstance(found, tuple) else found), key


@pytest.mark.parametrize("verb", DESCRIPTIONS)
def test_help_is_short_and_fits_80_columns(verb: str) -> None:
    lines = short_help(verb).splitlines()
    assert len(lines) < 125
    assert max(map(len, lines)) <= 80
    assert "mvit_b_16x4" in " ".join(lines)


def test_help_and_misspelt_keys_import_neither_torch_nor_lightning() -> None:
    code = (
        "import sys; from mvit_video.cli import main; main(['fit', '--help']); "
        "main(['fit', '-c', 'configs/demo.yaml', '--model.labelsmoothing', '1']); "
        "print(sorted({'torch', 'lightning'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "model.labelsmoothing: there is no such key; did you mean model.label_smoothing?" in done.stderr


def test_every_wrong_key_is_in_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data.mean", "[0, 0, 0]", "--data.batch_size=3", "--data.views.num_crop=3"]
    assert main(["fit", "-c", "configs/demo.yaml", *words]) == 2
    assert capsys.readouterr().err == (
        "error: data.mean is now data.input.mean; data.batch_size is now data.loading.batch_size; "
        "data.views.num_crop: there is no such key; did you mean data.views.num_crops?\n"
    )


def test_arguments_of_a_model_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model.net.help", "mvit_b_16x4"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("MViT-B, 16x4.")
    assert "--model.net.drop_path_rate" in printed
    assert main(["fit", "--model.net.help=mvit_b_16x5"]) == 2
    assert "there is no such model; did you mean mvit_b_16x4?" in capsys.readouterr().err


def test_all_keys_without_the_layers_of_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help-all"]) == 0
    printed = capsys.readouterr().out
    assert "--trainer.reload_dataloaders_every_n_epochs" in printed
    assert "torch.nn.Identity" not in printed


def test_other_loggers_by_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are parsed without their packages, which a run names if they are missing."""
    config = tmp_path / "loggers.yaml"
    config.write_text(
        """\
trainer:
  logger:
    - class_path: lightning.pytorch.loggers.WandbLogger
      init_args: {project: videos}
    - class_path: lightning.pytorch.loggers.MLFlowLogger
      init_args: {experiment_name: videos, tracking_uri: "file:mlruns"}
"""
    )
    assert main(["fit", "-c", "configs/demo.yaml", "-c", str(config), "--print_config"]) == 0
    wandb, mlflow = yaml.safe_load(capsys.readouterr().out)["trainer"]["logger"]
    assert wandb["init_args"]["project"] == "videos"
    assert mlflow["init_args"]["tracking_uri"] == "file:mlruns"
