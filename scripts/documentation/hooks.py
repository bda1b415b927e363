"""What `mkdocs build` does beside its plugins: adds generated pages, and keeps links that leave docs/ working."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, cast

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from scripts.documentation import reference

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.md"))
LOG = logging.getLogger("mkdocs.hooks")  # a warning fails a strict build


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the menus of the pages that are generated."""
    python = ["index", *reference.PUBLIC_MODULES]
    menu = cast("list[Any]", config.nav)
    next(item for item in menu if "Reference" in item)["Reference"][-1]["Python"] = [
        f"reference/python/{name}.md" for name in python
    ]
    next(item for item in menu if "Results" in item)["Results"][-1]["Benchmarks"] = [
        "benchmarks/index.md",
        *(
            {path.stem.capitalize().replace("Start", "Start-up"): f"benchmarks/{path.name}"}
            for path in BENCHMARKS
            if path.stem != "README"
        ),
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference, the benchmarks, the changelog and the contributor's guide."""
    for name in reference.undocumented():
        LOG.warning("%s has no docstring", name)
    pages = {
        "reference/command-line.md": reference.command_line_page(),
        "reference/settings.md": reference.settings_page(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](docs/", "]("),
    }
    pages |= {f"reference/python/{name}.md": text for name, text in reference.python_pages().items()}
    for path in BENCHMARKS:
        name = "index" if path.stem == "README" else path.stem
        pages[f"benchmarks/{name}.md"] = path.read_text(encoding="utf-8").replace("](../docs/", "](../")
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Change links to files beside docs/ at their pages, so that they work on the site and in the repository."""
    markdown = re.sub(r"\]\(\.\./((?:\.\./)*)benchmarks/README\.md", r"](\1benchmarks/index.md", markdown)
    markdown = re.sub(r"\]\(\.\./((?:\.\./)*benchmarks/\w+\.md)", r"](\1", markdown)
    for name in ("CHANGELOG", "CONTRIBUTING"):
        markdown = re.sub(rf"\]\(\.\./((?:\.\./)*){name}\.md", rf"](\1{name.lower()}.md", markdown)
    return markdown
