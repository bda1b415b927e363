"""The page in a browser: it opens without complaint, sorts, finds, lists, and shows pictures."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mvit_video.evaluation.result import Decoding
from mvit_video.types import ViewSpec
from tests.fixtures.pages import MakePage, MakeRun
from tests.fixtures.processes import Browse

NAMES = ["playing violin", "playing cello", "riding a bike"]
# two violins are predicted as cellos, a cello as a violin
LABELS = [0, 0, 0, 0, 1, 1, 1, 2, 2]
GUESSES = [0, 0, 1, 1, 1, 1, 0, 2, 2]


def scores(guesses: list[int], num_classes: int = 3, confidence: float = 0.6) -> np.ndarray:
    """The guess has the given probability, and a little more with each video."""
    others = np.linspace(1 - confidence, 0.8 * (1 - confidence), len(guesses)) / (num_classes - 1)
    values = np.repeat(others[:, None], num_classes, axis=1)
    values[np.arange(len(guesses)), guesses] = 1 - others * (num_classes - 1)
    return values


@pytest.fixture(scope="module")
def page(make_run: MakeRun, make_page: MakePage, digits: Path) -> str:
    videos = sorted((digits / "val").rglob("*.mp4"))[:8]
    paths = [str(path.relative_to(digits)) for path in videos] + ["val/gone.mp4"]
    decodings = {0: Decoding("pyav", True), 1: Decoding("decord", None, too_short=True)}
    folder = make_run(scores(GUESSES), LABELS, NAMES, paths, digits, decodings=decodings, views=ViewSpec(3, 3))
    return make_page(folder)


def test_opens_without_a_complaint_and_without_the_network(page: str, browse: Browse) -> None:
    seen = browse(page, "return performance.getEntriesByType('resource').map(one => one.name)")
    assert seen.answer == []
    assert seen.complaints == []
    for width in (1280, 380):
        script = "return [document.documentElement.scrollWidth, innerWidth]"
        wide, window = browse(page, script, width).answer
        assert wide <= window


def test_every_section_has_something(page: str, browse: Browse) -> None:
    ids = ["pictured-pairs", "pairs", "matrix", "classes", "mistakes", "correct", "failures-summary"]
    script = f"return {ids}.map(id => document.getElementById(id).textContent.length > 20)"
    assert browse(page, script).answer == [True] * len(ids)


def test_pictures_are_there_and_play(page: str, browse: Browse) -> None:
    script = """
        const films = [...document.querySelectorAll("#mistakes .film")];
        const sizes = await Promise.all(films.map(async film => {
          const image = new Image();
          image.src = film.style.backgroundImage.slice(5, -2);
          await image.decode();
          return [image.naturalWidth, image.naturalHeight];
        }));
        document.querySelector("#mistakes .screen").focus({ focusVisible: true });
        return [sizes, getComputedStyle(films[0]).animationName];"""
    (sizes, animation), complaints = browse(page, script)
    assert [width // height for width, height in sizes] == [8, 8, 8]  # eight square frames of each wrong video
    assert animation == "play"
    assert complaints == []


def test_worst_pairs_come_first(page: str, browse: Browse) -> None:
    script = """return ["#pictured-pairs h3", "#pairs tbody", "#confusions-summary"]
      .map(place => document.querySelector(place).textContent)"""
    title, row, summary = browse(page, script).answer
    assert title == "playing violin predicted as playing cello"
    assert row == "playing violinplaying cello2 of 41 of 33"
    assert summary.startswith("3 of 9 videos with a label were predicted as another class.")


def test_tables_sort(page: str, browse: Browse) -> None:
    script = """
        const names = () => [...document.querySelectorAll("#classes tbody tr")].map(row => row.cells[0].textContent);
        const told = [names()];
        for (const place of [2, 0, 1, 1]) {
          document.querySelectorAll("#classes th button")[place].click();
          told.push(names());
        }
        return [told, document.querySelectorAll("#classes th")[1].getAttribute("aria-sort")];"""
    (begin, falling, by_name, most_videos, fewest_videos), sort = browse(page, script).answer
    assert begin == ["playing violin", "playing cello", "riding a bike"]  # 50, 67, 100 percent
    assert falling == begin[::-1]
    assert by_name == sorted(NAMES)
    assert most_videos == ["playing violin", "playing cello", "riding a bike"]
    assert fewest_videos == most_videos[::-1]
    assert sort == "ascending"


def test_search_finds(page: str, browse: Browse) -> None:
    script = """
        const box = document.querySelector("#videos input");
        const search = text => {
          box.value = text;
          box.dispatchEvent(new Event("input"));
          return [...document.querySelectorAll("#videos tbody tr")].map(row => row.cells[2].textContent);
        };
        return [search("Violin WRONG").length, search("gone"), search("nothing of the kind"), search("").length];"""
    violins, gone, nothing, everything = browse(page, script).answer
    assert violins == 3  # two violins, and a cello predicted as one
    assert len(gone) == 1
    assert gone[0].startswith("riding a bike")
    assert (nothing, everything) == ([], 9)


def test_a_click_on_a_cell_or_a_class_lists_its_videos(page: str, browse: Browse) -> None:
    script = """
        const drawer = document.getElementById("drawer");
        const rows = () => drawer.querySelectorAll(".scroll tbody tr").length;
        document.querySelector("#matrix td[title^='playing violin, predicted as playing cello']").click();
        const cell = [drawer.open, byId("drawer-title").textContent, rows()];
        drawer.close();
        document.querySelector("#classes tbody tr").click();
        const one = [drawer.open, byId("drawer-title").textContent, rows()];
        drawer.querySelector(".scroll tbody tr").click();
        const video = [drawer.querySelectorAll("img.strip").length, drawer.querySelectorAll(".bar").length];
        byId("drawer-close").click();
        return [cell, one, video, drawer.open];"""
    (cell, one, video, is_open), complaints = browse(page, script)
    assert cell == [True, "playing violin, predicted as playing cello", 2]
    assert one == [True, "playing violin", 5]  # four of its own, and the cello
    assert video == [1, 3]
    assert not is_open
    assert complaints == []


def test_names_and_paths_are_text(make_run: MakeRun, make_page: MakePage, browse: Browse) -> None:
    evil = [
        "<script>window.hacked = 1</script>",
        "<img src=x onerror=window.hacked=2>",
        "</script><script>window.hacked=3//",
        "{{ 7 * 7 }} & <b>\u2028",
    ]
    paths = [f"{name}/{i}.mp4" for i, name in enumerate(evil)]
    folder = make_run(
        scores([1, 2, 3, 0], 4), [0, 1, 2, 3], evil, paths, failures={3: "<script>window.hacked=4</script>"}
    )
    (folder / "config.yaml").write_text("name: </pre><script>window.hacked=5</script>\n")
    (folder / "run.json").write_text('{"command": "<script>window.hacked=6</script>"}')
    study = {"study": evil[0], "setting": evil[1], "severity": None, "metric": evil[2], "value": 1.0, "low": None}
    parquet.write_table(pa.Table.from_pylist([study | {"high": None}]), folder / "robustness.parquet")
    page = make_page(folder)
    script = """
        showClass(0); showCell(0, 1); showVideo(0);
        const texts = place => [...document.querySelectorAll(place)].map(one => one.textContent);
        return [window.hacked ?? null, texts("#classes tbody td:first-child").sort(),
          document.querySelectorAll("main img, main script, main b b").length, texts("#matrix tbody th.class")];"""
    (hacked, listed, injected, ticks), complaints = browse(page, script)
    assert hacked is None
    assert listed == sorted(evil)
    assert injected == 0
    assert sorted(tick[:12] for tick in ticks) == sorted(name[:12] for name in evil)
    assert complaints == []


def test_several_labels(make_run: MakeRun, make_page: MakePage, browse: Browse) -> None:
    labels = [[0, 1], [1], [], [2, 0]]
    folder = make_run(scores([0, 2, 1, 2]), labels, NAMES)
    script = """return [document.getElementById("confusions"), document.querySelectorAll("#mistakes figure").length,
      document.querySelector("#classes thead").textContent, document.querySelector(".card b").textContent,
      [...document.querySelectorAll("#videos tbody tr")].map(row => row.cells[0].textContent).sort()]"""
    (confusions, mistakes, head, value, verdicts), complaints = browse(make_page(folder), script)
    assert confusions is None
    assert mistakes == 1
    assert head == "classvideosaverage precision"
    assert value.endswith("%")
    assert verdicts == ["no label", "✓ right", "✓ right", "✗ wrong"]
    assert complaints == []


def test_robustness_is_drawn(make_run: MakeRun, make_page: MakePage, browse: Browse) -> None:
    folder = make_run(scores(GUESSES), LABELS, NAMES)
    rows = [("frame_order", setting, None, 60.0) for setting in ("forward", "shuffled")]
    rows += [("corruptions", "noise", float(severity), 60.0 - severity) for severity in range(1, 6)]
    rows += [("corruptions", "none", None, 61.0), ("corruptions", "blur", 1.0, float("nan"))]
    rows += [("views", f"{clips} clips x {crops} crops", None, 60.0 + clips) for crops in (3, 1) for clips in (2, 1)]
    rows += [("another", "$x_", None, 5.0)]
    columns = dict(zip(("study", "setting", "severity", "value"), map(list, zip(*rows, strict=True)), strict=True))
    columns |= {"metric": ["top1"] * len(rows), "low": [50.0] * len(rows), "high": [70.0] * len(rows)}
    table = pa.table(columns, metadata={"gigaflops_per_view": "70.5"})
    parquet.write_table(table, folder / "robustness.parquet")
    script = """const section = document.querySelector("#robustness");
      return [[...section.querySelectorAll("svg")].map(one => one.textContent),
        section.querySelectorAll("tbody tr").length, section.textContent.includes("$x_")]"""
    (figures, num_rows, is_listed), complaints = browse(make_page(folder), script)
    views, orders, corruptions = figures
    assert "GFLOPs per video, 70.5 per view" in views
    assert all(text in orders for text in ("forward", "shuffled", "60.0", "chance"))
    assert all(text in corruptions for text in ("noise", "severity"))
    assert "blur" not in corruptions
    assert (num_rows, is_listed) == (len(rows), True)
    assert complaints == []


@pytest.mark.slow
def test_400_classes_and_20_000_videos(make_run: MakeRun, make_page: MakePage, browse: Browse) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(400), 50)
    values = rng.gumbel(size=(20_000, 400)).astype(np.float32)
    values[np.arange(20_000), labels] += 6
    values[np.arange(20_000), labels ^ 1] += 3
    values = np.exp(values)
    values /= values.sum(axis=1, keepdims=True)
    folder = make_run(values, labels.tolist(), [f"class number {c}" for c in range(400)], failures={7: "empty"})
    begin = time.process_time()
    page = make_page(folder)
    assert time.process_time() - begin < 30
    assert len(page.encode()) < 20e6
    script = """
        const input = byId("matrix-class");
        input.value = "class number 123";
        input.dispatchEvent(new Event("input"));
        const near = [...document.querySelectorAll("#matrix tbody th.class")].map(one => one.textContent);
        return [matrix.order.length, near.length, near.includes("class number 122") && near.includes(input.value),
          document.querySelectorAll("#classes tbody tr").length,
          document.querySelector("#videos [role=status]").textContent,
          Math.abs(matrix.place.get(122) - matrix.place.get(123))];"""
    (size, near, is_named, rows, videos, distance), complaints = browse(page, script)
    assert (size, near, is_named, rows, videos) == (400, 25, True, 100, "19,999 videos")
    assert distance == 1
    assert complaints == []
