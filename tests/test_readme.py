"""What the README shows runs and gives what its comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mvit_video.cli import main
from tests.fixtures.places import ROOT

README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_snippet_runs_and_gives_what_its_comments_say(real_videos: Path) -> None:
    source = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    source = source.replace('"video.mp4"', repr(str(real_videos / "arm_wrestling.mp4")))
    value_with_comment = r"^( *)((?!.* = )\S.*?) +# (torch\.Size\(\[[\d, ]+\]\)|\(.*?\)).*$"
    source, num_checks = re.subn(value_with_comment, r"\1check(\3, (\2))", source, flags=re.MULTILINE)
    checked = []

    def check(said: object, found: object) -> None:
        assert found == said
        checked.append(found)

    exec(source, {"check": check})
    assert len(checked) == num_checks == 4


def test_every_file_that_the_readme_names_exists() -> None:
    linked = re.findall(r"\]\((?!https)([\w./]+)\)", README)
    run = re.findall(r"(?:bash|-c) ((?:scripts|configs)/[\w./]+)", README)
    assert linked
    assert run
    assert [name for name in linked + run if not (ROOT / name).exists()] == []


def test_the_tree_of_the_readme_is_that_of_the_package() -> None:
    tree = README.split("## What is where")[1]
    named = set(re.findall(r"^ {6,}([\w]+(?:\.py|/)) ", tree, re.MULTILINE))
    found = {path.name + "/" * path.is_dir() for path in (ROOT / "mvit_video").rglob("*")}
    assert named - found == set()


def test_published_numbers_are_those_of_the_variants(capsys: pytest.CaptureFixture[str]) -> None:
    for text, pattern in ((README, "*_*x[34]"), ((ROOT / "docs" / "models.md").read_text(), "*")):
        assert main(["models", "--markdown", pattern]) == 0
        assert f"\n\n{capsys.readouterr().out}" in text
