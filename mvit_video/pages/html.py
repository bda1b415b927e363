"""HTML pages that need no other file and no network."""

from __future__ import annotations

from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader

from mvit_video.jobs import atomic_write


def write_html(path: Path, package: str, template: str, **values: object) -> None:
    """Write a page; values are escaped unless they are `Markup`.

    Args:
        package: package that holds the template, which extends `layout.html.j2`.
    """
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader("mvit_video.pages", ".")])
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["thousands"] = lambda number: f"{number:,}"
    page = environment.get_template(template).render(values)
    with atomic_write(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
