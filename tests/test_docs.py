"""README and docs: every code block runs, in the order of its page; the site builds strictly and works offline."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from mvit_video.cli import main
from mvit_video.cli.configs import PACKAGED_CONFIGS
from mvit_video.data import digits
from tests.fixtures.data import MakeDigits
from tests.fixtures.places import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WEIGHTS = "MViTv2_S_16x4_k400_f302660347.pyth"  # the published file that the pages begin with
WITH_CONFIG = ("fit", "validate", "test", "predict", "robustness")
# settings that make any config a matter of seconds; what a page sets itself is left as it is
SMALL = {
    "model.net.init_args.num_frames": "2", "model.net.init_args.crop_size": "16", "model.net.init_args.depths": "[1]",
    "model.net.init_args.embed_dim": "8", "model.schedule.warmup_epochs": "0", "data.clip.num_frames": "2",
    "data.input.crop_size": "16", "data.input.decode_short_side": "null", "data.augment.repeats": "1",
    "data.views.short_side": "16", "data.loading.batch_size": "2", "data.loading.num_workers": "0",
    "trainer.max_epochs": "1", "trainer.limit_train_batches": "2", "trainer.limit_val_batches": "2",
    "trainer.accelerator": "cpu", "trainer.precision": "32-true",
}  # fmt: skip
OF_DIGITS = {"model.net.init_args.patch.kernel": "[1,8,8]", "model.net.init_args.patch.stride": "[1,8,8]"}
BLOCK = re.compile(r"^(?:<!-- not run: (.+?) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VALUE = re.compile(r"^( *)((?!.* = )\S.*?) +# (torch\.Size\(\[[\d, ]+\]\)|\(\d+\)).*$", re.MULTILINE)

pytestmark = [
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:invalid escape sequence"),  # pytorchvideo, when it is compiled
]


class Block(NamedTuple):
    """A code block of a page.

    Attributes:
        reason: why it is not run; empty if it is.
    """

    where: str
    language: str
    text: str
    reason: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, one.start(3)) + 1}", one[2], one[3], one[1] or "")
        for one in BLOCK.finditer(text)
    ]


def commands_of(block: Block) -> Iterator[list[str]]:
    for line in block.text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


@pytest.fixture(scope="module")
def folder_of_pages(make_digits: MakeDigits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what the pages name: videos, lists of them, a trained run, weights."""
    import mvit_video as mv

    folder = tmp_path_factory.mktemp("pages")
    made = make_digits(16, 8)
    for name in ("train", "val"):
        shutil.copytree(made / name, folder / name)
        shutil.copy(made / f"{name}.csv", folder)
    for name in ("videos", "my_videos"):
        shutil.copytree(made / "train", folder / name)
    with mv.open_video(next(made.glob("train/*/*.mp4"))) as reader:
        digits.encode(reader.get_frames(3 * list(range(len(reader)))).numpy(), folder / "video.mp4")
    size = {"num_frames": 2, "crop_size": 16, "depths": (1,), "embed_dim": 8}
    mv.export_checkpoint(mv.create_model("mvitv2_s_16x4", num_classes=400, **size), folder / WEIGHTS, "slowfast")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in (
            "configs/demo.yaml --data.train train.csv --data.val val.csv",
            "configs/small.yaml --data.root my_videos",
        ):
            assert run(shlex.split(f"mvit-video fit -c {words}")) == 0
    return folder


def run(words: list[str]) -> int:
    """Run a command of a page, made small."""
    if words[0] in ("mvit-video", "lightning"):
        return main([*words[1:], *small(words[1:])])
    if words[:3] == ["python", "-m", "mvit_video.data.digits"]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [*words[2:], "--num-train", "24", "--num-val", "8"])
            digits.main()
        return 0
    assert words[0] in ("cp", "mkdir"), f"{shlex.join(words)}: no command that the tests run"
    return subprocess.run(words, check=False).returncode


def small(words: list[str]) -> Iterator[str]:
    if words[0] in WITH_CONFIG:
        config = words[words.index("-c") + 1]
        settings = SMALL | OF_DIGITS if config in ("configs/demo.yaml", "configs/small.yaml") else SMALL
        given = {word.split("=")[0] for word in words}
        yield from (f"--{key}={value}" for key, value in settings.items() if f"--{key}" not in given)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_run(
    page: Path,
    folder_of_pages: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocks = [block for block in blocks_of(page) if not block.reason and block.language in ("bash", "python")]
    if not blocks:
        pytest.skip("has no code block that runs")
    if page.name == "get-started.md":  # makes its own videos
        monkeypatch.chdir(tmp_path)
    else:
        shutil.copytree(folder_of_pages, tmp_path / "work")
        monkeypatch.chdir(tmp_path / "work")
    checked: list[str] = []

    def check(said: object, found: object, where: str) -> None:
        assert found == said, where
        checked.append(where)

    if any("import pytorchvideo" in block.text or "from pytorchvideo" in block.text for block in blocks):
        pytest.importorskip("pytorchvideo")
    names: dict[str, object] = {"check": check}
    for block in blocks:
        if block.language == "bash":
            for words in commands_of(block):
                assert run(words) == 0, f"{block.where}: {shlex.join(words)}\n{capsys.readouterr().err}"
        else:
            source, num_values = VALUE.subn(rf"\1check(\3, (\2), {block.where!r})", block.text)
            exec(compile(source, block.where, "exec"), names)
            assert checked.count(block.where) == num_values


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_not_run_are_understood(page: Path) -> None:
    """Their configs exist, and their verbs have their options."""
    from scripts.documentation.reference import parser_of

    for block in blocks_of(page):
        for words in commands_of(block) if block.reason and block.language == "bash" else ():
            for one in words:
                if one.startswith(("configs/", "scripts/")):
                    assert (ROOT / one).is_file(), f"{block.where}: {one}"
            if words[0] == "mvit-video":
                options = {name for action in parser_of(words[1])._actions for name in action.option_strings}
                given = {word.split("=")[0] for word in words[2:] if word.startswith("--")}
                assert given <= options, block.where


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_yaml_blocks_are_configs(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks_of(page):
        if block.language == "yaml":
            config = tmp_path / "page.yaml"
            config.write_text(block.text)
            assert isinstance(yaml.safe_load(block.text), dict)
            words = ["-c", str(PACKAGED_CONFIGS / "demo.yaml"), "-c", str(config), "--print_config"]
            assert main(["fit", *words]) == 0, f"{block.where}: {capsys.readouterr().err}"


def test_five_snippets_have_five_lines_at_most() -> None:
    snippets = [block.text for block in blocks_of(ROOT / "README.md") if not block.reason]
    assert len(snippets) == 4
    assert all(len(text.splitlines()) <= 5 for text in snippets)


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_files_that_the_readme_names_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\((?!https)([\w./-]+)", readme) + re.findall(r"(?:srcset|src)=\"([^\"]+)", readme)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_tree_of_the_readme_is_that_of_the_package() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## What is where")[1]
    named = set(re.findall(r"^ {6,}([\w]+(?:\.py|/)) ", tree, re.MULTILINE))
    found = {path.name + "/" * path.is_dir() for path in (ROOT / "mvit_video").rglob("*")}
    assert named - found == set()


def test_published_numbers_are_those_of_the_variants(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--markdown"]) == 0
    assert f"\n\n{capsys.readouterr().out}" in (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def test_drawings_are_what_the_script_draws() -> None:
    from scripts.documentation.drawings import FOLDER, render

    assert {name: (FOLDER / name).read_text(encoding="utf-8") for name in render()} == render()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the built pages."""
    pytest.importorskip("material", reason="mkdocs-material has no release for this Python")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr  # with --quiet, mkdocs ignores what --strict looks for
    assert "WARNING" not in built.stderr
    return folder


@pytest.mark.slow
def test_pages_load_nothing_from_the_network(site: Path) -> None:
    loaded = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=\"?(?:https?:)?//[^\">]*")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    assert {page.name: found for page in pages if (found := loaded.findall(page.read_text(encoding="utf-8")))} == {}


@pytest.mark.slow
def test_search_works_in_pages_opened_from_a_folder(site: Path) -> None:
    assert (site / "search" / "search_index.js").read_text(encoding="utf-8").startswith("var __index = {")
    assert 'src="assets/iframe-worker.js"' in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_reference_has_every_verb_and_key(site: Path) -> None:
    from mvit_video.cli import VERBS

    commands, keys = ((site / "reference" / f"{name}.html").read_text() for name in ("command-line", "settings"))
    assert [verb for verb in VERBS if f'<h2 id="{verb}">' not in commands] == []
    assert [key for key in ("data.clip.num_frames", "model.schedule.warmup_epochs") if key not in keys] == []
