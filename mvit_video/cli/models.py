"""The verb `models`."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence

from rich.table import Table

from mvit_video.cli.options import VerbParser, console_for_reports
from mvit_video.models import list_models, variants
from mvit_video.types import ConfigError


def run(words: list[str]) -> int:
    """Print the models with their input, parameters, cost and published accuracy."""
    parser = VerbParser(
        prog="mvit-video models",
        description="List the models: input, parameters, GFLOPs (multiply-adds) of one view, and published top1 with "
        "its views. No weights come with the package.",
        example="mvit-video models --pattern 'mvitv2*'",
    )
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern of the names")
    parser.add_argument("--pattern", dest="option", metavar="PATTERN", help="the same as an option")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown, as README.md has it")
    args = parser.parse_args(words)
    pattern = args.option or args.pattern
    names = list_models(pattern)
    if not names:
        near = difflib.get_close_matches(pattern, list_models(), n=1)
        hint = f"did you mean {near[0]}?" if near else "mvit-video models without a pattern lists all"
        raise ConfigError(f"no model has a name like {pattern!r}; {hint}")
    if args.markdown:
        print("\n".join(_markdown(names)))
        return 0
    table = Table("model", "input (T x H x W)")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("GFLOPs", justify="right")
    for title in ("published top1", "views", "source"):
        table.add_column(title)
    console = console_for_reports()
    for name in names:
        found = variants()[name]
        size = found.size
        input_size = f"{size.num_frames} x {size.crop_size} x {size.crop_size}"
        cost = f"{size.num_parameters / 1e6:.2f} M", f"{size.multiply_adds / 1e9:.1f}"
        top1 = found.data if found.top1 is None else f"{found.top1:.1f} {found.data}"
        table.add_row(name, input_size, *cost, top1, found.views, found.source)
    console.print(table)
    return 0


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
