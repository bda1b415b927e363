"""The verb `models`."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table

from mvit_video.cli.options import VerbParser, console_for_reports
from mvit_video.models import list_models, variants
from mvit_video.types import ConfigError

_WIDE = 100  # columns of a terminal that shows sources too


def run(words: list[str]) -> int:
    """Print the models with their input, parameters, cost and published accuracy."""
    parser = VerbParser(
        prog="mvit-video models",
        description="List the models: input (frames x pixels), parameters in millions, GFLOPs (multiply-adds) of one "
        "view, published top1 and its views (clips x crops). No weights come with the package.",
        example="mvit-video models 'mvitv2*'",
    )
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern of the names")
    parser.add_argument("--pattern", dest="option", metavar="PATTERN", help="the same as an option")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    args = parser.parse_args(words)
    pattern = args.option or args.pattern
    names = list_models(pattern)
    if not names:
        near = difflib.get_close_matches(pattern.lower().strip("*"), list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "mvit-video models without a pattern lists all"
        raise ConfigError(f"no model has a name like {pattern!r}; {hint}")
    if args.markdown:
        print("\n".join(_markdown(names)))
    else:
        _print(names)
    return 0


def _print(names: Sequence[str]) -> None:
    console = console_for_reports()
    table = Table(box=box.SIMPLE, padding=0, pad_edge=False, collapse_padding=True)
    table.add_column("model", no_wrap=True)
    for title in ("input", "params M", "GFLOPs", "top1"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("data", "views") + (("source",) if console.width >= _WIDE else ()):
        table.add_column(title)
    for name in names:
        found = variants()[name]
        size = found.size
        cost = f"{size.num_parameters / 1e6:.2f}", f"{size.multiply_adds / 1e9:.1f}"
        top1 = "-" if found.top1 is None else f"{found.top1:.1f}"
        views = re.sub(r" (clips|crops?)\b", "", found.views)
        row = name, f"{size.num_frames} x {size.crop_size}", *cost, top1, found.data, views, found.source
        table.add_row(*row[: len(table.columns)])
    console.print(table, highlight=False, markup=False)


def _markdown(names: Sequence[str]) -> Iterator[str]:
    yield "| model | data | views | top1 published | parameters | GFLOPs x views | source |"
    yield "|---|---|---|--:|--:|--:|---|"
    for name in names:
        found = variants()[name]
        top1 = "" if found.top1 is None else f"{found.top1:.1f}"
        data = found.data if found.top1 is not None else f"no number ({found.data})"
        parameters = f"{found.size.num_parameters / 1e6:.1f} M"
        num_views = math.prod(map(int, re.findall(r"\d+", found.views)))
        cost = f"{found.size.multiply_adds / 1e9:.1f} x {num_views}"
        source = f"[{found.source}](https://arxiv.org/abs/{found.source.removeprefix('arXiv:')})"
        yield f"| `{name}` | {data} | {found.views} | {top1} | {parameters} | {cost} | {source} |"
