"""The verb `compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from mvit_video.cli.options import VerbParser, add_class_names_option, console_for_reports, count
from mvit_video.cli.wording import in_flags

if TYPE_CHECKING:
    from mvit_video.evaluation.comparison import Comparison
    from mvit_video.runs.predictions import Predictions


def run(words: list[str]) -> int:
    """Compare two tests of the same videos."""
    args = _parser().parse_args(words)
    from mvit_video.evaluation.comparison import compare_predictions
    from mvit_video.runs.predictions import load_predictions

    with in_flags(class_names="--class-names"):
        first, second = (load_predictions(one, args.class_names) for one in (args.first, args.second))
    found = compare_predictions(first, second)
    if args.json:
        files = {"first": str(first.file), "second": str(second.file)}
        print(json.dumps({**files, **found.record()}, indent=2))
    else:
        _print(found, first, second, args.rows)
    return 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video compare",
        description="Compare two tests of the same videos: difference in top1 with its interval over pairs and "
        "McNemar's exact test, classes that changed, videos that only one of them has right.",
        example="mvit-video compare runs/mvit_b_k400/version_3 runs/mvit_b_k400/version_7",
    )
    parser.add_argument("first", metavar="A", help="run folder of a test, or its predictions.parquet")
    parser.add_argument("second", metavar="B", help="the other test; differences are B minus A")
    add_class_names_option(parser, "the names that the tests recorded")
    parser.add_argument("--rows", type=count, default=10, metavar="N", help="rows of each list (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")
    return parser


def _print(found: Comparison, first: Predictions, second: Predictions, num_rows: int) -> None:
    from mvit_video.metrics.intervals import LEVEL
    from mvit_video.runs.predictions import in_words

    console = console_for_reports()
    for letter, run in (("A", first), ("B", second)):
        console.print(f"{letter}: {run.file}", highlight=False, soft_wrap=True)
    low, high = found.interval
    rows = [
        ("videos in both", f"{found.num_videos}"),
        ("without a label or a score in both", f"{found.num_left_out}"),
        ("top1 of A", f"{found.top1[0]:.2f}"),
        ("top1 of B", f"{found.top1[1]:.2f}"),
        ("B minus A", f"{found.difference:+.2f}  ({LEVEL:.0%}: {low:+.2f} to {high:+.2f})"),
        ("McNemar's p", f"{found.p_value:.2g}"),
        ("right only in A", f"{len(found.only_first)}"),
        ("right only in B", f"{len(found.only_second)}"),
    ]
    rows += [(f"{key} of A, of B", f"{one}, {other}") for key, (one, other) in found.settings.items()]
    _table(console, "Paired comparison", [], rows)
    largest = sorted(found.classes, key=lambda one: -abs(one.difference))[:num_rows]
    changed = [
        (
            _name(one.number, first),
            str(one.num_videos),
            f"{one.first:.1f}",
            f"{one.second:.1f}",
            f"{one.difference:+.1f}",
        )
        for one in sorted(largest, key=lambda one: one.difference)
    ]
    _table(console, f"Classes that changed ({len(found.classes)})", ["class", "videos", "A", "B", "B minus A"], changed)
    for letter, missed in (("A", found.only_first), ("B", found.only_second)):
        cells = [(in_words(one[:3]), *(_name(number, first) for number in one[3:])) for one in missed[:num_rows]]
        _table(console, f"Right only in {letter} ({len(missed)})", ["path", "label", "A", "B"], cells)


def _table(console: Console, title: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", show_header=bool(columns))
    for name in columns or rows[0]:
        table.add_column(name, overflow="fold")  # a path is not cut
    for row in rows:
        table.add_row(*row)
    console.print(table, highlight=False, markup=False)


def _name(number: int, run: Predictions) -> str:
    names = run.class_names
    return names[number] if names is not None and number < len(names) else f"class {number}"
