"""The verb `models`."""

from __future__ import annotations

import torch
from rich.progress import track
from rich.table import Table

from mvit_video.cli.options import VerbParser, console_for_reports
from mvit_video.models import create_model, list_models
from mvit_video.models.net import multiply_adds
from mvit_video.models.published import PUBLISHED


def print_models(words: list[str]) -> int:
    """Prints the models with their input, parameters, cost and published accuracy."""
    parser = VerbParser(
        prog="mvit-video models",
        description="List the models: input, parameters, GFLOPs (multiply-adds) of one view, and published top1 with "
        "its views. No weights come with the package.",
        example="mvit-video models --pattern 'mvitv2*'",
    )
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern of the names")
    parser.add_argument("--pattern", dest="option", metavar="PATTERN", help="the same as an option")
    args = parser.parse_args(words)
    table = Table("model", "input (T x H x W)")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("GFLOPs", justify="right")
    for title in ("published top1", "views", "source"):
        table.add_column(title)
    console = console_for_reports()
    names = list_models(args.option or args.pattern)
    for name in track(names, "counting", console=console, transient=True, disable=not console.is_terminal):
        size, num_parameters, gflops = _measure(name)
        top1, data, views, source, _ = PUBLISHED[name]
        accuracy = data if top1 is None else f"{top1:.1f} {data}"
        table.add_row(name, size, f"{num_parameters / 1e6:.2f} M", f"{gflops:.1f}", accuracy, views, source)
    console.print(table)
    return 0


def _measure(name: str) -> tuple[str, int, float]:
    """Input, parameters and giga multiply-adds of one view, from shapes alone."""
    with torch.device("meta"):
        net = create_model(name)
    num_parameters = sum(parameter.numel() for parameter in net.parameters())
    return f"{net.num_frames} x {net.crop_size} x {net.crop_size}", num_parameters, multiply_adds(net) / 1e9
