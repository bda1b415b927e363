"""The example of every public name runs, in the order of its docstring."""

import doctest
import shutil
from pathlib import Path

import pytest

import mvit_video as mv

pytestmark = pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")


@pytest.fixture(scope="module")
def here(example_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(example_folder, tmp_path_factory.mktemp("docstrings") / "here")


@pytest.mark.parametrize("name", mv.__all__)
def test_the_example_of_a_public_name_runs(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    text = getattr(mv, name).__doc__ or ""
    test = doctest.DocTestParser().get_doctest(text, {"mv": mv}, f"mv.{name}", None, None)
    assert test.examples, f"the docstring of mv.{name} has no example"
    printed: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=printed.append)
    assert not result.failed, "".join(printed)
