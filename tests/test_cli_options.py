"""Wrong options of the verbs without a config: one line, what is meant, exit code 2."""

import pytest

from mvit_video.cli import VERBS, main
from mvit_video.cli.options import VerbParser, count, positive
from mvit_video.types import ConfigError

VERBS_WITHOUT_CONFIG = [name for name, verb in VERBS.items() if verb.module not in ("trainer", "predict", "study")]


@pytest.mark.parametrize("verb", VERBS_WITHOUT_CONFIG)
def test_an_unknown_option_is_one_line(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--zzz", "3"]) == 2
    told = capsys.readouterr()
    assert told.err == f"error: --zzz: there is no such option; see mvit-video {verb} --help\n"
    assert told.out == ""


@pytest.mark.parametrize("verb", VERBS_WITHOUT_CONFIG)
def test_help_ends_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"example: mvit-video {verb} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scan", "videos", "--ot", "scans"], "--ot: there is no such option; did you mean --out?"),
        (["scan", "videos", "--ot=scans"], "--ot: there is no such option; did you mean --out?"),
        (["scan"], "the following arguments are required: DATA, --out; see mvit-video scan --help"),
        (["scan", "a", "b", "--out", "c"], "unrecognized arguments: b; see mvit-video scan --help"),
        (["scan", "a", "--out"], "--out: expected one argument; see mvit-video scan --help"),
        (["scan", "a", "--out", "c", "--workers", "two"], "--workers: must be a whole number above 0, got 'two'; see"),
        (["scan", "a", "--out", "c", "--time-limit", "0"], "--time-limit: must be a number above 0, got '0'; see"),
        (["scan", "a", "--out", "c", "--min-seconds", "x"], "--min-seconds: must be a number, got 'x'; see"),
        (["prepare", "a", "--out", "c", "--gop", "1.5"], "--gop: must be a whole number, got '1.5'; see"),
        (["convert", "a", "b", "--to", "onnx"], "--to: invalid choice: 'onnx' (choose from"),
    ],
)  # fmt: skip
def test_mistakes_name_the_option_and_the_value(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {message}")
    assert told.count("\n") == 1


def test_words_after_two_dashes_are_no_options() -> None:
    parser = VerbParser("mvit-video show", "Show.", "mvit-video show a.mp4")
    parser.add_argument("videos", nargs="*")
    assert parser.parse_args(["--", "--odd.mp4"]).videos == ["--odd.mp4"]


def test_verbs_of_a_verb_find_their_own_options() -> None:
    parser = VerbParser("mvit-video study", "Study.", "mvit-video study shape a.ckpt")
    shape = parser.add_subparsers(required=True).add_parser(
        "shape", description="Shape.", example="mvit-video study shape"
    )
    shape.add_argument("--points", type=count)
    shape.add_argument("--radius", type=positive)
    assert vars(parser.parse_args(["shape", "--points", "3", "--radius", "0.5"])) == {"points": 3, "radius": 0.5}
    with pytest.raises(ConfigError, match=r"^--point: there .* did you mean --points\?"):
        parser.parse_args(["shape", "--point", "3"])
