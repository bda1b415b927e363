"""The look of pages: contrast in both themes, and figures as part of a page."""

import re
from pathlib import Path

import pytest

from mvit_video.pages.figures import BLUE, GREY, inline_svg, label_text, new_figure, write_png
from mvit_video.pages.html import write_html
from tests.fixtures.places import ROOT

CSS = (ROOT / "mvit_video" / "pages" / "page.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#\w+)", theme))
    for theme in CSS.split("@media (max-width")[0].split("@media (prefers")
)
TEXTS = ("ink", "soft", "accent", "right", "wrong", "bad", "odd")


def luminance(colour: str) -> float:
    """Relative luminance of a colour such as #1d2733 or #fff, by WCAG 2.2."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * one for one in colour[1:])
    shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in shares]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_texts_are_readable(theme: dict[str, str]) -> None:
    for name in TEXTS:
        for paper in ("card", "page"):
            assert contrast(theme[name], theme[paper]) >= 4.5, (name, paper)
    assert contrast(theme["note-ink"], theme["note"]) >= 4.5


def test_themes_have_the_same_colours() -> None:
    assert set(LIGHT) == set(DARK)


def test_a_figure_becomes_part_of_the_page() -> None:
    figure, (axes,) = new_figure()
    axes.plot([0, 1], [0, 1], color=BLUE, label=label_text("_$<b>\x1b"))
    axes.axhline(0.5, color=GREY)
    axes.legend()
    svg = inline_svg(figure)
    assert svg.startswith('<svg class="figure" viewBox="0 0 ')
    assert svg.count("</svg>") == 1
    assert "_$&lt;b&gt;\\x1b" in svg
    assert "<b>" not in svg
    assert "var(--right)" in svg
    assert "var(--soft)" in svg
    assert BLUE not in svg
    assert inline_svg(figure) == svg  # equal figures are equal text


def test_a_figure_is_written_as_png(tmp_path: Path) -> None:
    figure, panels = new_figure(2, 3)
    assert [panel.get_subplotspec().get_geometry()[2] for panel in panels] == list(range(6))
    write_png(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_charts_take_names_as_text(tmp_path: Path) -> None:
    package = tmp_path / "drawn_page"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.j2").write_text(
        '{% extends "layout.html.j2" %}{% import "charts.html.j2" as charts %}'
        "{% block main %}{{ charts.bars(rows) }}{{ charts.columns(rows, rows[0][0], 'b', median=2) }}{% endblock %}"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        rows = [("<b>a", 4), ('"b', 1), ("c", 0)]
        write_html(tmp_path / "one.html", "drawn_page", "one.j2", kind="<i>", title="</title>", rows=rows)
    page = (tmp_path / "one.html").read_text()
    assert re.findall(r"--share: ([\d.]+)%", page) == ["100.0", "25.0", "0.0", "50.0", "100.0", "25.0", "0.0"]
    assert "<title>&lt;i&gt; &lt;/title&gt;</title>" in page
    assert "<b>a" not in page
    assert 'title="&#34;b: 1 video"' in page
    assert not re.search(r"https?://", page)
