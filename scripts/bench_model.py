"""MViT-B 16x4 against torchvision's and pytorchvideo's, in turn, in one process, on one CPU thread.

Prints for each precision and pass the median CPU seconds of each net, the ratio to ours, and the share of the
machine's own matrix-multiply rate that each reaches. All nets hold the same weights; their outputs are compared
before anything is timed.

    python scripts/bench_model.py
    python scripts/bench_model.py --precisions float32 --passes forward --rounds 9
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import mvit_video as mv
from mvit_video.models.checkpoints import to_pytorchvideo, to_torchvision

GIGA_MULTIPLY_ADDS = 70.6  # of one forward pass of one clip (tests/models/test_published_tables.py)


def build_nets() -> dict[str, nn.Module]:
    """Ours first, then the peers with its weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore, which pytorchvideo imports, uses what torch deprecates
        from pytorchvideo.models.hub import mvit_base_16x4
    from torchvision.models.video import mvit_v1_b

    # without dropout and stochastic depth, so that training passes do equal work
    ours = mv.create_model("mvit_b_16x4", drop_path_rate=0.0, dropout=0.0)
    torchvision = mvit_v1_b(stochastic_depth_prob=0.0, dropout=0.0)
    torchvision.load_state_dict(to_torchvision(ours.state_dict()))
    pytorchvideo = mvit_base_16x4(head_dropout_rate=0.0)
    pytorchvideo.load_state_dict(to_pytorchvideo(ours.state_dict()))
    return {"mvit_video": ours, "torchvision": torchvision, "pytorchvideo": pytorchvideo}


def forward(net: nn.Module, clip: Tensor) -> Tensor:
    """Logits, without a graph."""
    with torch.no_grad():
        return net(clip)


def forward_backward(net: nn.Module, clip: Tensor) -> Tensor:
    """Logits, after the gradients of a loss on them."""
    net.zero_grad(set_to_none=True)
    logits = net(clip)
    nn.functional.cross_entropy(logits, torch.zeros(len(clip), dtype=torch.long)).backward()
    return logits


PASSES: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], int]] = {
    "forward": (forward, 1),
    "forward+backward": (forward_backward, 3),  # backward costs two forwards
}


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process, which other programs of the machine disturb less than the wall clock."""
    start = time.process_time()
    work()
    return time.process_time() - start


def matmul_rate(dtype: torch.dtype) -> float:
    """Giga multiply-adds per second of a large matrix product: what no net can pass."""
    a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    return 2048**3 / 1e9 / min(cpu_seconds(lambda: a @ b) for _ in range(8))


def measure(work: Callable[[nn.Module, Tensor], Tensor], dtype: torch.dtype, clip: Tensor, rounds: int) -> list[list]:
    """One row a net: name, median seconds, ratio to ours, largest difference of the logits from ours."""
    nets = build_nets()
    training = work is forward_backward
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        logits = {name: work(net.train(training), clip).detach().float() for name, net in nets.items()}
        seconds: dict[str, list[float]] = {name: [] for name in nets}
        for _ in range(rounds):
            for name, net in nets.items():
                seconds[name].append(cpu_seconds(lambda net=net: work(net, clip)))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ours = medians["mvit_video"]
    return [
        [name, median, median / ours, (logits[name] - logits["mvit_video"]).abs().max().item()]
        for name, median in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--passes", nargs="+", default=list(PASSES), choices=list(PASSES))
    parser.add_argument("--rounds", type=int, default=5, help="medians are over this many rounds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clip = torch.randn(1, 3, 16, 224, 224)
    table = Table(title=f"MViT-B 16x4, one clip, one thread, torch {torch.__version__}, median of {args.rounds}")
    for column in ("precision", "pass", "net", "CPU s", "x ours", "% of matmul rate", "max |logit - ours|"):
        table.add_column(column, justify="left" if column in ("precision", "pass", "net") else "right")
    for precision in args.precisions:
        dtype = getattr(torch, precision)
        rate = matmul_rate(dtype)
        for name in args.passes:
            work, forwards = PASSES[name]
            for net, median, ratio, difference in measure(work, dtype, clip, args.rounds):
                share = 100 * forwards * GIGA_MULTIPLY_ADDS / median / rate
                row = (f"{median:.2f}", f"{ratio:.2f}", f"{share:.0f}", f"{difference:.1e}")
                table.add_row(precision, name, net, *row)
        table.add_row(precision, "", f"matmul: {rate:.0f} GMAC/s", end_section=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
