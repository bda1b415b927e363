"""What jsonargparse says of a value becomes KEY=VALUE, what was expected, and the nearest."""

import warnings

import pytest

from mvit_video.cli import main
from mvit_video.cli.configs import with_found_configs
from mvit_video.cli.wording import in_flags, in_words
from mvit_video.types import CheckpointError, ConfigError

LITERALS = "typing.Literal[64, 32], typing.Literal['16-mixed', 'bf16-mixed'], <class 'NoneType'>"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Parser key \"a.b\": Expected a <class 'float'>. Got value: x", "a.b=x: expected a number"),
        (
            f"a.b: Does not validate against any of the Union subtypes Subtypes: [{LITERALS}] Errors: Expected a "
            "<class 'int'> - Expected a <class 'NoneType'> Given value type: <class 'str'> Given value: bf16-mixd",
            "a.b=bf16-mixd: expected one of 64, 32, 16-mixed, bf16-mixed or null; did you mean bf16-mixed?",
        ),
        (
            "a: Expected a path but foo either not accessible or invalid - Does not validate against any of the Union "
            "subtypes Subtypes: [list[lightning.Callback], <class 'NoneType'>] Errors: Expected a <class 'list'> - "
            "Expected a dot import path string: foo - Expected a <class 'NoneType'> Given value type: <class 'str'> "
            "Given value: foo",
            "a=foo: expected the import path of a class or function, such as torch.optim.AdamW",
        ),
        (
            "model.net: Problem with given class_path 'mvit_video.models.mvit': embed_dim: Expected a <class 'int'>. "
            "Got value: x",
            "model.net.embed_dim=x: expected a whole number",
        ),
        ("Subcommand 'fit' does not accept option 'data.x'", "data.x: there is no such key"),
        (
            "unrecognized arguments: x.yaml --y 1",
            "unrecognized arguments: x.yaml --y 1; a config is given as -c x.yaml",
        ),
        ("unrecognized arguments: x", "unrecognized arguments: x; options begin with --"),
        ("unrecognized arguments: --y", "unrecognized arguments: --y"),
        (
            "the following arguments are required: fit.model.net, fit.model.optimizer",
            "the config does not set model.net, model.optimizer; add them, or give a config of configs/ that does with "
            "-c",
        ),
        ("something else", "something else"),
    ],
)
def test_in_words(said: str, words: str) -> None:
    assert in_words(said) == words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit"], "fit needs a config that says which model and which videos: mvit-video fit -c configs/demo.yaml"),
        (["test", "demo.yaml"], "test needs a config .*; demo.yaml is given as -c demo.yaml$"),
        (["fit", "-c"], "-c needs the path of a config, such as -c configs/demo.yaml"),
        (["fit", "-c", "configs/demoo.yaml"], "there is no such file; did you mean configs/demo.yaml.$"),
    ],
)
def test_a_config_that_is_missing_is_asked_for(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_found_configs(words)
    assert with_found_configs(["fit", "--model.net", "x"]) == ["fit", "--model.net", "x"]
    assert with_found_configs(["fit", "--help-all"]) == ["fit", "--help"]


def test_a_warning_of_any_verb_is_one_safe_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    assert main(["--version"]) == 0
    line = warnings.formatwarning("left out:\nx\x1b[2J.mp4", UserWarning, "inputs.py", 73)  # type: ignore[arg-type]
    assert line == "warning: left out: x\\x1b[2J.mp4\n"


def test_arguments_of_the_library_are_worded_as_flags() -> None:
    for error in (ConfigError, CheckpointError):
        with pytest.raises(error) as caught, in_flags(source="--model", class_names="--class-names"):
            raise error("class_names holds 2 names, source=runs/demo has 3 classes, resource=1")
        assert str(caught.value) == "--class-names holds 2 names, --model runs/demo has 3 classes, resource=1"
