"""The verb `compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mvit_video.cli.options import VerbParser, add_class_names_option, console_for_reports, count
from mvit_video.cli.wording import in_flags
from mvit_video.evaluation.comparison import Comparison, Missed, compare_predictions
from mvit_video.metrics.intervals import LEVEL
from mvit_video.runs.predictions import Predictions, in_words, load_predictions


def run(words: list[str]) -> int:
    """Says what one test has over another of the same videos."""
    args = _parser().parse_args(words)
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
        "McNemar's exact test, classes that changed, videos that one of them alone has right.",
        example="mvit-video compare runs/mvit_b_k400/version_3 runs/mvit_b_k400/version_7",
    )
    parser.add_argument("first", metavar="A", help="run folder of a test, or its predictions.parquet")
    parser.add_argument("second", metavar="B", help="likewise; differences are B minus A")
    add_class_names_option(parser, "those that the tests recorded")
    parser.add_argument("--rows", type=count, default=10, metavar="N", help="rows of each list (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")
    return parser


def _print(found: Comparison, first: Predictions, second: Predictions, num_rows: int) -> None:
    console = console_for_reports()
    for letter, run in (("A", first), ("B", second)):
        console.print(f"{letter}: {run.file}", highlight=False, soft_wrap=True)
    low, high = found.interval
    rows = [
        ("videos in both", f"{found.num_videos}"),
        ("without a score in both, or a label", f"{found.num_left_out}"),
        ("top1 of A", f"{found.top1[0]:.2f}"),
        ("top1 of B", f"{found.top1[1]:.2f}"),
        ("B minus A", f"{found.difference:+.2f}  ({LEVEL:.0%}: {low:+.2f} to {high:+.2f})"),
        ("McNemar's p", f"{found.p_value:.2g}"),
        ("right in A alone", f"{len(found.only_first)}"),
        ("right in B alone", f"{len(found.only_second)}"),
    ]
    rows += [(f"{key} of A, of B", f"{one}, {other}") for key, (one, other) in found.settings.items()]
    _table(console, "Paired comparison", [], rows)
    changed = sorted(found.classes, key=lambda one: -abs(one.difference))
    cells = [
        (
            _name(one.number, first),
            str(one.num_videos),
            f"{one.first:.1f}",
            f"{one.second:.1f}",
            f"{one.difference:+.1f}",
        )
        for one in sorted(changed[:num_rows], key=lambda one: one.difference)
    ]
    _table(console, f"Classes that changed ({len(changed)})", ["class", "videos", "A", "B", "B minus A"], cells)
    for letter, missed in (("A", found.only_first), ("B", found.only_second)):
        title = f"Right in {letter} alone ({len(missed)})"
        _table(console, title, ["path", "label", "A", "B"], [_cells(one, first) for one in missed[:num_rows]])


def _cells(missed: Missed, run: Predictions) -> tuple[str, ...]:
    numbers = missed.label, missed.first_prediction, missed.second_prediction
    return (in_words(missed[:3]), *(_name(number, run) for number in numbers))


def _table(console: Console, title: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    table = Table(*columns, title=title, title_justify="left", show_header=bool(columns))
    for row in rows:
        table.add_row(*row)
    console.print(table, highlight=False, markup=False)


def _name(number: int, run: Predictions) -> str:
    names = run.class_names
    return names[number] if names is not None and number < len(names) else f"class {number}"
