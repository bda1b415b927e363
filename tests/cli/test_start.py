"""What a verb imports before it works, and how its help and its tables fit a terminal."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import get_args

import pytest

from mvit_video.analysis.studies import STUDIES
from mvit_video.cli import USAGE, VERBS, main
from mvit_video.cli.analyse import NAMES
from mvit_video.cli.convert import HEAD_POOLS, _layout
from mvit_video.cli.extract import _parser as extract_parser
from mvit_video.cli.prepare import _parser as prepare_parser
from mvit_video.cli.probe import _parser as probe_parser
from mvit_video.curation.encoding import EncodeSettings
from mvit_video.features.extractor import ExtractSettings
from mvit_video.features.probe import ProbeSettings
from mvit_video.models import list_models
from mvit_video.models.families.mvit.net import HeadPool
from tests.fixtures.places import ROOT

# a verb of Lightning needs it for its options
LIGHTNING = ("fit", "validate", "test", "predict", "robustness")
IMPORTS = r"""
import json, sys
from contextlib import redirect_stdout
from io import StringIO
before = set(sys.modules)
from mvit_video.cli import main
with redirect_stdout(StringIO()):
    code = main(sys.argv[1:])
ours = {name.partition(".")[0] for name in sys.modules.keys() - before}
print(json.dumps([code, sorted(ours - set(sys.stdlib_module_names) - {"mvit_video", "__mp_main__"})]))
"""


def imported(*words: str) -> set[str]:
    """Packages outside the standard library that a command line imports."""
    done = subprocess.run([sys.executable, "-c", IMPORTS, *words], capture_output=True, text=True, check=True, cwd=ROOT)
    code, packages = json.loads(done.stdout)
    assert code == 0
    return set(packages)


@pytest.mark.parametrize("words", [[], ["--version"], ["models"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_an_answer_without_work_imports_nothing_that_the_work_needs(words: list[str]) -> None:
    assert imported(*words) <= {"rich"}


def test_what_the_parsers_state_is_what_the_library_takes() -> None:
    assert get_args(HeadPool) == HEAD_POOLS
    assert tuple(STUDIES) == NAMES
    assert "expected one of mvit_video, slowfast, pytorchvideo, torchvision" in (_layout("timm") or "")
    assert EncodeSettings(*map(prepare_parser().get_default, ("short_side", "gop", "crf"))) == EncodeSettings()
    probe, extract = probe_parser(), extract_parser()
    assert ProbeSettings(*map(probe.get_default, ("strengths", "folds", "max_iterations"))) == ProbeSettings()
    names = [name for name in ExtractSettings.__dataclass_fields__ if name != "model"]
    given = {name: extract.get_default(name) for name in names}
    assert ExtractSettings("", **given) == ExtractSettings("")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    for name, value in {"COLUMNS": "80", "TTY_COMPATIBLE": "1", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, without the codes of a terminal."""
    return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - set(LIGHTNING)))
@pytest.mark.usefixtures("terminal")
def test_help_has_an_example_and_fits_80_columns(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    printed = shown(capsys)
    assert f"example: mvit-video {verb} " in " ".join(printed.split())
    assert max(map(len, f"{printed}{USAGE}".splitlines())) <= 80


@pytest.mark.usefixtures("terminal")
def test_models_shows_whole_names_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    printed = shown(capsys)
    assert max(map(len, printed.splitlines())) <= 80
    assert set(list_models()) <= set(printed.split())


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("xyz*", "mvit-video models without a pattern lists all"),
        ("mvit_v2*", "did you mean mvitv2_t or mvitv2_s or mvitv2_l?"),
        ("MViTv2_B", "did you mean mvitv2_b or mvitv2_t or mvitv2_s?"),
    ],
)
def test_a_pattern_that_no_model_matches_is_refused(
    pattern: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", pattern]) == 2
    assert capsys.readouterr() == ("", f"error: no model has a name like {pattern!r}; {hint}\n")
