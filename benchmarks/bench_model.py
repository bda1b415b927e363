"""MViT-B 16x4 and MViTv2-S 16x4 against torchvision's and pytorchvideo's: one process, one CPU thread, alternating.

Prints for each precision and pass the median CPU seconds of each net, the ratio to ours, and the share of the
machine's own matrix-multiply rate that each reaches. All nets hold the same weights; the largest difference of their
logits stands beside. Peak memory is that of a training step in a process of its own, less what the process held before.

    python benchmarks/bench_model.py
    python benchmarks/bench_model.py --models mvit_b_16x4 --precisions float32 --passes forward --rounds 9
    python benchmarks/bench_model.py --passes memory
    python benchmarks/bench_model.py --passes profile --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch
from measuring import cpu_seconds
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import mvit_video as mv
from mvit_video.models.families.mvit.exporting import to_layout

# multiply-adds of one forward pass of one clip (tests/models/families/mvit/test_published_tables.py)
GIGA_MULTIPLY_ADDS = {"mvit_b_16x4": 70.6, "mvitv2_s_16x4": 64.2}
PEERS = {"mvit_b_16x4": ("mvit_video", "torchvision", "pytorchvideo"), "mvitv2_s_16x4": ("mvit_video", "torchvision")}


def build(model: str, code_base: str) -> nn.Module:
    """Build a model of a code base, without dropout and stochastic depth, so that training passes do equal work."""
    if code_base == "mvit_video":
        return mv.create_model(model, drop_path_rate=0.0, dropout=0.0)
    if code_base == "torchvision":
        from torchvision.models.video import mvit_v1_b, mvit_v2_s

        return (mvit_v1_b if model == "mvit_b_16x4" else mvit_v2_s)(stochastic_depth_prob=0.0, dropout=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore, which pytorchvideo imports, uses what torch deprecates
        from pytorchvideo.models.hub import mvit_base_16x4
    return mvit_base_16x4(head_dropout_rate=0.0)


def build_all(model: str) -> dict[str, nn.Module]:
    """Build ours, then the peers with its weights."""
    nets = {name: build(model, name) for name in PEERS[model]}
    state = nets["mvit_video"].state_dict()
    for name in ("torchvision", "pytorchvideo"):
        if name in nets:
            nets[name].load_state_dict(to_layout(state, name))
    return nets


def forward(net: nn.Module, clip: Tensor) -> Tensor:
    """Return the logits, without a graph."""
    with torch.no_grad():
        return net(clip)


def forward_backward(net: nn.Module, clip: Tensor) -> Tensor:
    """Return the logits after backward of a loss on them."""
    net.zero_grad(set_to_none=True)
    logits = net(clip)
    nn.functional.cross_entropy(logits, torch.zeros(len(clip), dtype=torch.long)).backward()
    return logits


PASSES: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], int]] = {
    "forward": (forward, 1),
    "forward+backward": (forward_backward, 3),  # backward costs two forwards
}


# operators by kind; the rest is "other"
OPERATORS = {
    "linear layers": ("aten::addmm", "mkldnn::_linear_pointwise"),
    "attention: products, softmax": (
        "aten::bmm",
        "aten::_softmax",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
    ),
    "convolutions": ("aten::mkldnn_convolution",),
    "copies": ("aten::copy_", "aten::cat"),
    "GELU": ("aten::gelu",),
    "norms": ("aten::native_layer_norm",),
    "sums": ("aten::add", "aten::add_"),
    "max pooling": ("aten::max_pool3d_with_indices",),
}


def matmul_rate(dtype: torch.dtype) -> float:
    """Return giga multiply-adds per second of a large matrix product, the upper bound of any net."""
    a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    return 2048**3 / 1e9 / min(cpu_seconds(lambda: a @ b) for _ in range(8))


def measure(
    model: str, work: Callable[[nn.Module, Tensor], Tensor], dtype: torch.dtype, rounds: int
) -> list[tuple[str, float, float, float]]:
    """Return a row for each net: name, median seconds, ratio to ours, largest difference of the logits from ours."""
    nets, clip = build_all(model), torch.randn(1, 3, 16, 224, 224)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        logits = {name: work(net.train(work is forward_backward), clip).detach().float() for name, net in nets.items()}
        seconds: dict[str, list[float]] = {name: [] for name in nets}
        for _ in range(rounds):
            for name, net in nets.items():
                seconds[name].append(cpu_seconds(lambda net=net: work(net, clip)))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ours = medians["mvit_video"]
    return [
        (name, median, median / ours, (logits[name] - logits["mvit_video"]).abs().max().item())
        for name, median in medians.items()
    ]


def peak_memory(model: str, code_base: str) -> float:
    """Return the GiB that a training step on two clips adds to this process."""
    net, clip = build(model, code_base).train(), torch.randn(2, 3, 16, 224, 224)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = resident_peak()
    forward_backward(net, clip)
    return resident_peak() - before


def resident_peak() -> float:
    """Return the peak resident memory of this process in GiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def memory_rows(model: str) -> list[tuple[str, float, float]]:
    """Return a row for each net: name, GiB, ratio to ours."""
    found = {}
    for name in PEERS[model]:
        command = [sys.executable, __file__, "--models", model, "--peak-memory-of", name]
        found[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    return [(name, gib, gib / found["mvit_video"]) for name, gib in found.items()]


def operator_milliseconds(nets: dict[str, nn.Module], clip: Tensor, rounds: int) -> dict[str, dict[str, float]]:
    """Return the CPU time of a forward pass of each net by kind of operator.

    The profiler reports wall time, which is scaled to the CPU time of the passes.
    """
    wall = {name: dict.fromkeys([*OPERATORS, "other"], 0.0) for name in nets}
    cpu = dict.fromkeys(nets, 0.0)
    kinds = {operator: kind for kind, operators in OPERATORS.items() for operator in operators}
    for _ in range(rounds):
        for name, net in nets.items():
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                cpu[name] += 1e3 * cpu_seconds(lambda net=net: forward(net, clip)) / rounds
            for event in profiled.key_averages():
                wall[name][kinds.get(event.key, "other")] += event.self_cpu_time_total
    return {
        name: {kind: time * cpu[name] / sum(times.values()) for kind, time in times.items()}
        for name, times in wall.items()
    }


def giga_multiply_adds(model: str) -> dict[str, float]:
    """Return those of linear layers, attention and convolutions in torchvision, which follows the definition."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        forward(build(model, "torchvision").eval(), torch.empty(1, 3, 16, 224, 224))
    by_name = {str(operator): flops / 2e9 for operator, flops in counter.get_flop_counts()["Global"].items()}
    names = dict(zip(OPERATORS, ("aten.addmm", "aten.bmm", "aten.convolution"), strict=False))
    return {kind: by_name[name] for kind, name in names.items()}


def profile_table(model: str, precision: str, rounds: int) -> Table:
    """Return the time of each kind of operator in a forward pass, and its time at the rate of a matrix product."""
    table = Table(title=f"{model}, {precision}, forward, CPU ms of each kind of operator", title_justify="left")
    names, dtype, clip = ("mvit_video", "torchvision"), getattr(torch, precision), torch.randn(1, 3, 16, 224, 224)
    for column in ("operators", *names, "at matmul rate"):
        table.add_column(column, justify="left" if column == "operators" else "right")
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        nets = {name: build(model, name).eval() for name in names}
        for net in nets.values():
            forward(net, clip)
        found = operator_milliseconds(nets, clip, rounds)
    rate, work = matmul_rate(dtype), giga_multiply_adds(model)
    limits = {kind: 1e3 * count / rate for kind, count in work.items()}
    for kind in [*OPERATORS, "other"]:
        limit = f"{limits[kind]:.0f}" if kind in limits else ""
        table.add_row(kind, *(f"{found[name][kind]:.0f}" for name in names), limit)
    table.add_section()
    table.add_row("sum", *(f"{sum(found[name].values()):.0f}" for name in names), f"{sum(limits.values()):.0f}")
    return table


def time_table(models: list[str], precisions: list[str], passes: list[str], rounds: int) -> Table:
    """Time every model in every precision and pass."""
    table = Table(title=f"One clip, one thread, torch {torch.__version__}, median of {rounds}", title_justify="left")
    for column in ("model", "precision", "pass", "net", "CPU s", "x ours", "% of matmul rate", "max |logit - ours|"):
        table.add_column(column, justify="left" if column in ("model", "precision", "pass", "net") else "right")
    for model in models:
        for precision in precisions:
            dtype = getattr(torch, precision)
            rate = matmul_rate(dtype)
            for name in passes:
                work, forwards = PASSES[name]
                for net, median, ratio, difference in measure(model, work, dtype, rounds):
                    share = 100 * forwards * GIGA_MULTIPLY_ADDS[model] / median / rate
                    row = (f"{median:.2f}", f"{ratio:.2f}", f"{share:.0f}", f"{difference:.1e}")
                    table.add_row(model, precision, name, net, *row)
            table.add_row("", precision, "", f"matmul: {rate:.0f} GMAC/s", end_section=True)
    return table


def memory_table(models: list[str]) -> Table:
    """Measure the memory of every model in float32."""
    table = Table("model", "net", title="Peak memory of a training step, 2 clips, float32", title_justify="left")
    table.add_column("GiB", justify="right")
    table.add_column("x ours", justify="right")
    for model in models:
        for net, gib, ratio in memory_rows(model):
            table.add_row(model, net, f"{gib:.2f}", f"{ratio:.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    passes = [*PASSES, "memory", "profile"]
    parser.add_argument("--passes", nargs="+", default=passes, choices=passes)
    parser.add_argument("--rounds", type=int, default=5, help="medians are over this many rounds")
    parser.add_argument("--peak-memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if args.peak_memory_of:
        print(peak_memory(args.models[0], args.peak_memory_of))
        return
    console = Console(width=130)
    if passes := [name for name in args.passes if name in PASSES]:
        console.print(time_table(args.models, args.precisions, passes, args.rounds))
    if "memory" in args.passes:
        console.print(memory_table(args.models))
    if "profile" in args.passes:
        for model, precision in product(args.models, args.precisions):
            console.print(profile_table(model, precision, args.rounds))


if __name__ == "__main__":
    main()
