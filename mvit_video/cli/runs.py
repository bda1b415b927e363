"""The verb `runs`."""

from __future__ import annotations

import json
from pathlib import Path

from mvit_video.cli.options import VerbParser, console_for_reports
from mvit_video.cli.wording import in_flags


def run(words: list[str]) -> int:
    """List runs with their best metric and state."""
    parser = VerbParser(
        prog="mvit-video runs",
        description="List the runs in a folder, the newest first: name, start, model, best metric (in percent, or a "
        "loss) and state (finished, tested, stopped, failed, running).",
        example="mvit-video runs runs/demo",
    )
    parser.add_argument("folder", nargs="?", default="runs", metavar="FOLDER", help="folder (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args(words)
    from rich import box
    from rich.table import Table

    from mvit_video.runs.listing import find_runs

    with in_flags(folder="FOLDER"):
        found = find_runs(Path(args.folder))
    if args.json:
        values = [run._asdict() | {"started": run.started.isoformat() if run.started else None} for run in found]
        print(json.dumps([one | {"value": one["value"] if one["metric"] else None} for one in values]))
        return 0
    console = console_for_reports()
    if not found:
        console.print(f"there are no runs in {args.folder}; mvit-video fit makes one", highlight=False, markup=False)
        return 0
    table = Table(box=box.SIMPLE, padding=0, pad_edge=False, collapse_padding=True)
    for title in ("run", "started", "model", "best", "state"):
        table.add_column(title, no_wrap=title in ("started", "state"), overflow="fold")
    for run in found:
        started = f"{run.started:%Y-%m-%d %H:%M}" if run.started else "-"
        best = f"{run.metric} {run.value:.{2 if 'loss' not in run.metric else 4}f}" if run.metric else "-"
        table.add_row(run.name, started, run.model or "-", best, run.state)
    console.print(table, highlight=False, markup=False)
    return 0
