"""The verb `search`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvit_video.cli.options import VerbParser, add_class_names_option, console_for_reports, count
from mvit_video.cli.wording import in_flags

if TYPE_CHECKING:
    import numpy as np

    from mvit_video.features.queries import Queries
    from mvit_video.features.search import Neighbours
    from mvit_video.features.store import FeatureTable


def run(words: list[str]) -> int:
    """Print the stored features most similar to a video."""
    args = _parser().parse_args(words)
    from mvit_video.features.queries import query_rows, query_video
    from mvit_video.features.search import nearest_rows
    from mvit_video.features.store import load_features, require_alike

    with in_flags(class_names="--class-names"):
        table = load_features(args.features, args.class_names)
    is_table = Path(args.query).is_dir() or args.query.endswith(".parquet")
    asked = load_features(args.query, args.class_names) if is_table else None
    if asked is not None:
        require_alike(table, asked)
    queries = None if asked is not None else query_video(args.query, table)
    if args.windows == "mean":
        table, asked = table.averaged(), None if asked is None else asked.averaged()
    if queries is None:
        assert asked is not None
        queries = query_rows(asked, table)
    without = None if args.same_video else queries.file
    found = nearest_rows(queries.vectors, table.vectors, args.k, file=table.file, without=without)
    same = _same_class_first(queries, table, found)
    if args.json:
        print(json.dumps({"features": args.features, "k": args.k, **same, "queries": _records(queries, table, found)}))
    else:
        _print(queries, table, found, same)
    return 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video search",
        description="Find the K windows, or videos, whose stored features have the largest cosine with a query: an "
        "exact search over all rows. Rows of the query's own file are excluded.",
        example="mvit-video search features/train --query video.mp4:12.5 -k 10",
    )
    parser.add_argument("features", metavar="FEATURES", help="folder of mvit-video extract, or a Parquet file of it")
    parser.add_argument(
        "--query", required=True, metavar="VIDEO", help="a path as FEATURES has it or any video file, for the mean of "
        "its windows; VIDEO:SECONDS for the window there; or other features, whose rows are all queries",
    )  # fmt: skip
    add_class_names_option(parser, "those of the extraction")
    parser.add_argument("-k", type=count, default=10, metavar="K", help="rows to find (default: %(default)s)")
    parser.add_argument(
        "--windows", choices=["keep", "mean"], default="keep", help="find windows, or videos by the mean of their "
        "windows (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--same-video", action="store_true", help="find rows of the query's own file too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def _same_class_first(queries: Queries, table: FeatureTable, found: Neighbours) -> dict[str, Any]:
    """Return the share of queries whose nearest row has the same label, among pairs with labels."""
    first = found.row[:, 0]
    known = (queries.label >= 0) & (first >= 0) & (table.label[first] >= 0)
    if not known.any():
        return {}
    share = 100 * float((queries.label[known] == table.label[first[known]]).mean())
    return {"same_class_first": share, "num_labelled_queries": int(known.sum())}


def _records(queries: Queries, table: FeatureTable, found: Neighbours) -> list[dict[str, Any]]:
    spans = zip(queries.start_seconds.tolist(), queries.end_seconds.tolist(), queries.label.tolist(), strict=True)
    return [
        {"path": path, "start_seconds": start, "end_seconds": end, "label": _label(label),
         "hits": _hits(table, found.row[q], found.similarity[q])}
        for q, (path, (start, end, label)) in enumerate(zip(queries.path, spans, strict=True))
    ]  # fmt: skip


def _hits(table: FeatureTable, row: np.ndarray, similarity: np.ndarray) -> list[dict[str, Any]]:
    row, similarity = row[row >= 0], similarity[row >= 0]
    columns = table.rows.select(["path", "start_seconds", "end_seconds", "label"]).take(row).to_pylist()
    return [one | {"cosine": cosine} for one, cosine in zip(columns, similarity.tolist(), strict=True)]


def _label(number: int) -> int | None:
    return None if number < 0 else number


def _print(queries: Queries, table: FeatureTable, found: Neighbours, same: dict[str, Any]) -> None:
    from rich.table import Table

    console = console_for_reports()
    names = table.class_names
    for record in _records(queries, table, found):
        title = f"{record['path']}  {record['start_seconds']:.2f} to {record['end_seconds']:.2f} s"
        if record["label"] is not None:
            title += f"  {_name(record['label'], names)}"
        shown = Table("cosine", "path", "start", "end", "label", title=title, title_justify="left")
        for hit in record["hits"]:
            span = (f"{hit['start_seconds']:.2f}", f"{hit['end_seconds']:.2f}")
            shown.add_row(f"{hit['cosine']:.4f}", hit["path"], *span, _name(hit["label"], names))
        console.print(shown, highlight=False, markup=False)
    if same and len(queries.path) > 1:
        share, num_queries = same["same_class_first"], same["num_labelled_queries"]
        console.print(f"the nearest has the query's label: {share:.2f} % of {num_queries:,} queries", highlight=False)


def _name(label: int | None, names: tuple[str, ...] | None) -> str:
    if label is None:
        return ""
    return names[label] if names is not None and label < len(names) else f"class {label}"
