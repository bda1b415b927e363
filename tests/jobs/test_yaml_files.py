"""YAML from anybody: within limits, in one line where it is wrong, and never executed."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mvit_video.cli.configs import with_found_configs
from mvit_video.jobs.yaml_files import MAX_BYTES, YamlError, parse_yaml, read_yaml
from mvit_video.types import ConfigError

NESTED_MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i + 1}: &a{i + 1} {{<<: [*a{i}, *a{i}]}}\n" for i in range(40))
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9))


def test_anchors_and_merges_within_the_limits_are_read() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: [2, 3.5, true, null, 2026-11-30x]}\n") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": [2, 3.5, True, None, "2026-11-30x"]},
    }
    assert parse_yaml("[" * 49 + "]" * 49)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "line 1: more than 50 levels of lists and mappings"),
        ("\n".join(" " * i + "a:" for i in range(1000)), "line 50: more than 50 levels"),
        (LAUGHS, "counted with aliases replaced"),
        (NESTED_MERGES, "line 15: more than 100,000 values, counted with aliases replaced"),
        ("a: &a [*a]", r"line 1: the alias \*a is undefined or refers to itself"),
        ("a: [1,\n" + " " * MAX_BYTES + "2]", "more than 1,048,576 bytes"),
        (":".join(["1"] * 20_000), "line 1: a number of 39,999 digits"),
        ("a: 1\nb: - 2", r"line 2: not YAML \(block sequence entries are not allowed in this context\)"),
        ("a: !!python/object/apply:os.system [exit]", "line 1: not YAML .could not determine a constructor"),
        ("when: 2026-13-45", "not YAML .ValueError: month must be in 1..12"),
    ],
    ids=range(10),
)
def test_what_is_wrong_is_told_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(YamlError, match=message):
        parse_yaml(text)
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        with_found_configs(["fit", "-c", str(file)])
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_yaml_are_named(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    os.mkfifo(tmp_path / "fifo.yaml")
    for name, message in [
        ("bytes.yaml", "not UTF-8 text .byte 3.; expected a YAML file"),
        ("fifo.yaml", "not a regular file; expected a YAML file"),
        (".", "a folder; expected a YAML file"),
        ("none.yaml", "there is no such file"),
    ]:
        with pytest.raises(ConfigError, match=message):
            read_yaml(tmp_path / name)
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match=r"list.yaml: must hold keys such as model, data and trainer, got a list"):
        with_found_configs(["fit", "-c", str(tmp_path / "list.yaml")])


# every sign that means something, some scalars, and tags whose scalars can be wrong
_PIECES = [
    *"ax1~&*<:?-[]{},|>'\"#%@! \n\t\0\u00e9\ud800", "&a", "*a", "<<", ": ", "-2.5e3", "0x", "1:2", "true", ".nan",
    "2026-13-45", "!!int", "!!float", "!!bool", "!!timestamp", "!!binary", "!!set", "!!omap", "!!pairs", "---", "...",
    "!!python/name:os.system",
]  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=30).map("".join))
@example('!!int ""')
@example("!!bool x")
@example("!!timestamp x")
@example("<<: [1]")
@example("? {a: 1}\n: 2")
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(YamlError):
        parse_yaml(text)
