"""The verb `models`."""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Table

from mvit_video.models import create_model, list_models


def print_models(words: list[str]) -> int:
    """Prints the models and their parameters."""
    parser = argparse.ArgumentParser(
        prog="mvit-video models",
        description="List the models with their input and parameters.",
        epilog="example: mvit-video models 'mvit_b*'",
    )
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern of the names")
    try:
        pattern = parser.parse_args(words).pattern
    except SystemExit as stop:
        return int(stop.code or 0)
    table = Table("model", "input (T x H x W)", "parameters")
    for name in list_models(pattern):
        with torch.device("meta"):
            net = create_model(name)
        num_parameters = sum(parameter.numel() for parameter in net.parameters())
        table.add_row(name, f"{net.num_frames} x {net.crop_size} x {net.crop_size}", f"{num_parameters / 1e6:.2f} M")
    Console().print(table)
    return 0
