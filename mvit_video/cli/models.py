"""The verb `models`."""

from __future__ import annotations

import torch
from rich.progress import track
from rich.table import Table

from mvit_video.cli.options import VerbParser, console_for_reports
from mvit_video.models import create_model, list_models
from mvit_video.models.net import multiply_adds

_PAPER_1, _PAPER_2 = "arXiv:2104.11227", "arXiv:2112.01526"
_PVT, _PVT_V2, _CPVT, _TWINS = "arXiv:2102.12122", "arXiv:2106.13797", "arXiv:2102.10882", "arXiv:2104.13840"
_IMAGE_VIEW = "centre crop"
# top1 in percent, data set, views, source
PUBLISHED = {
    "mvit_s_16x4": (76.0, "Kinetics-400", "5 clips x 1 crop", _PAPER_1),
    "mvit_b_16x4": (78.4, "Kinetics-400", "5 clips x 1 crop", _PAPER_1),
    "mvit_b_32x3": (80.2, "Kinetics-400", "5 clips x 1 crop", _PAPER_1),
    "mvit_b_64x3": (81.2, "Kinetics-400", "3 clips x 3 crops", _PAPER_1),
    "mvit_b24_32x3": (83.8, "Kinetics-600", "5 clips x 1 crop", _PAPER_1),
    "mvitv2_s_16x4": (81.0, "Kinetics-400", "5 clips x 1 crop", _PAPER_2),
    "mvitv2_b_32x3": (82.9, "Kinetics-400", "5 clips x 1 crop", _PAPER_2),
    "mvitv2_l_40x3": (86.1, "Kinetics-400, from ImageNet-21K", "5 clips x 3 crops", _PAPER_2),
    "mvit_b_16": (83.0, "ImageNet-1K", _IMAGE_VIEW, _PAPER_1),
    "mvitv2_t": (82.3, "ImageNet-1K", _IMAGE_VIEW, _PAPER_2),
    "mvitv2_s": (83.6, "ImageNet-1K", _IMAGE_VIEW, _PAPER_2),
    "mvitv2_b": (84.4, "ImageNet-1K", _IMAGE_VIEW, _PAPER_2),
    "mvitv2_l": (85.3, "ImageNet-1K", _IMAGE_VIEW, _PAPER_2),
    "pvt_tiny": (75.1, "ImageNet-1K", _IMAGE_VIEW, _PVT),
    "pvt_small": (79.8, "ImageNet-1K", _IMAGE_VIEW, _PVT),
    "pvt_medium": (81.2, "ImageNet-1K", _IMAGE_VIEW, _PVT),
    "pvt_large": (81.7, "ImageNet-1K", _IMAGE_VIEW, _PVT),
    "pvt_huge": (None, "none", _IMAGE_VIEW, _PVT),
    "pvt_v2_b0": (70.5, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2),
    "pvt_v2_b1": (78.7, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2),
    "pvt_v2_b2": (82.0, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2),
    "pvt_v2_b2_li": (82.1, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2),
    "pvt_v2_b3": (83.1, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2),
    "pvt_v2_b4": (83.6, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2),
    "pvt_v2_b5": (83.8, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2),
    "twins_pcpvt_small": (81.2, "ImageNet-1K", _IMAGE_VIEW, _TWINS),
    "twins_pcpvt_base": (82.7, "ImageNet-1K", _IMAGE_VIEW, _TWINS),
    "twins_pcpvt_large": (83.1, "ImageNet-1K", _IMAGE_VIEW, _TWINS),
    "cpvt_ti": (72.4, "ImageNet-1K", _IMAGE_VIEW, _CPVT),
    "cpvt_ti_plus": (73.4, "ImageNet-1K", _IMAGE_VIEW, _CPVT),
    "cpvt_ti_gap": (74.9, "ImageNet-1K", _IMAGE_VIEW, _CPVT),
    "cpvt_s": (79.9, "ImageNet-1K", _IMAGE_VIEW, _CPVT),
    "cpvt_s_plus": (80.5, "ImageNet-1K", _IMAGE_VIEW, _CPVT),
    "cpvt_s_gap": (81.5, "ImageNet-1K", _IMAGE_VIEW, _CPVT),
    "cpvt_b": (81.9, "ImageNet-1K", _IMAGE_VIEW, _CPVT),
    "cpvt_b_plus": (None, "not looked up", _IMAGE_VIEW, _CPVT),
    "cpvt_b_gap": (None, "not looked up", _IMAGE_VIEW, _CPVT),
    **dict.fromkeys(
        [f"alternet_{depth}" for depth in (18, 34, 50, 101, 152)],
        (None, "in figures only", _IMAGE_VIEW, "arXiv:2202.06709"),
    ),
}


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
        top1, data, views, source = PUBLISHED[name]
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
