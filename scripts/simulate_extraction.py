"""What extracting features of very many videos takes: hours, machines, storage, and what failures add.

A discrete simulation of `mvit-video extract --engine ray`: workers take bundles of videos, decode and transform them on
their cores beside the model, and hand the features to one driver, which writes them and notes them in the ledger.
Machines are lost at random with the bundles that they hold, and come back later; some videos are broken or hang. The
rates are those in RATES, and those that were not measured say so. It prints the tables of docs/scale.md.

    python scripts/simulate_extraction.py
    python scripts/simulate_extraction.py --videos 250000 --machines 4 --cores 96 --gpus 8 --windows-per-second 300
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

HOUR = 3600.0


class Rate(NamedTuple):
    """A number that the estimate rests on; `source` says where it was measured, or why it is assumed."""

    text: str
    value: float
    unit: str
    is_measured: bool
    source: str


BENCH = "below"
RATES = {
    "decode": Rate("decode a video of 10 s, 340x256 H.264", 0.400, "core-s a video", True, BENCH),
    "transform": Rate("resize, crop and normalise a window", 0.020, "core-s a window", True, BENCH),
    "cpu": Rate("MViT-B 16x4 on a core, bfloat16", 0.91, "core-s a window", True, "benchmarks/model.md"),
    "gpu": Rate(
        "MViT-B 16x4 on a GPU, half precision", 100, "windows/s", False,
        "half of Hiera-B's rate on an A100 (its README) at equal multiply-adds",
    ),
    "bundle": Rate("driver: give and take a bundle", 0.010, "s a bundle", True, BENCH),
    "write": Rate("driver: write features and ledger", 0.0002, "s a video", True, BENCH),
    "start": Rate("worker: import, build and load the model", 10, "s", True, BENCH),
    "resume": Rate("driver: read the ledger at a start", 2e-6, "s a video done", True, BENCH),
    "window_bytes": Rate("features of a window, float16", 1600, "bytes", True, BENCH),
    "video_bytes": Rate("ledger and manifest of a video", 100, "bytes", True, BENCH),
    "broken": Rate("videos that cannot be decoded", 0.01, "of all", False, "`mvit-video scan` of a sample tells"),
    "hanging": Rate("videos that hang, 120 s each", 1e-5, "of all", False, "none in the files tried here"),
    "replace": Rate("until a lost machine is replaced", 300, "s", False, "the provider's matter"),
}  # fmt: skip
LIMIT_SECONDS = 120.0


@dataclass(frozen=True)
class Plan:
    """An extraction and the machines for it.

    Attributes:
        num_windows: of each video.
        cores: of a machine.
        gpus: of a machine; without any the model runs on the cores.
        windows_per_second: of one GPU.
        hours_between_losses: mean time from the start of a machine to its loss.
        bundle: videos that a worker takes at a time.
        num_done: videos that earlier runs have done, on top of `num_videos`.
    """

    name: str
    num_videos: int = 10_000_000
    num_windows: int = 9
    num_machines: int = 1
    cores: int = 96
    gpus: int = 8
    windows_per_second: float = RATES["gpu"].value
    hours_between_losses: float = 1000.0
    bundle: int = 32
    num_done: int = 0
    seed: int = 0

    @property
    def num_workers(self) -> int:
        """Workers of one machine: one for each GPU, or else for every core."""
        return self.gpus or self.cores

    @property
    def core_seconds(self) -> float:
        """Work of cores on a video."""
        window = RATES["transform"].value + (0.0 if self.gpus else RATES["cpu"].value)
        return RATES["decode"].value + self.num_windows * window

    @property
    def video_seconds(self) -> float:
        """Time of a worker for a video, with decoding and the model side by side."""
        on_gpu = self.num_windows / self.windows_per_second if self.gpus else 0.0
        return max(self.core_seconds * self.num_workers / self.cores, on_gpu)

    @property
    def ideal_hours(self) -> float:
        """Time if nothing were lost, broken, started or ended."""
        return self.num_videos * self.video_seconds / (self.num_machines * self.num_workers) / HOUR

    @property
    def bytes_stored(self) -> float:
        """Size of features, ledger and manifest together."""
        good = self.num_videos * (1 - RATES["broken"].value)
        return good * self.num_windows * RATES["window_bytes"].value + self.num_videos * RATES["video_bytes"].value


@dataclass
class Result:
    """What became of a plan.

    Attributes:
        num_done: videos with features.
        num_failed: videos that are in the manifest with a reason.
        num_losses: machines lost.
        num_repeated: videos in bundles that were lost with their machine and done again.
        driver_share: part of the time in which the driver worked.
    """

    hours: float = 0.0
    num_done: int = 0
    num_failed: int = 0
    num_losses: int = 0
    num_repeated: int = 0
    driver_share: float = 0.0


class _Bundle(NamedTuple):
    number: int
    size: int
    seconds: float


class Simulation:
    """A plan that is played through, event by event."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._chance = random.Random(plan.seed)
        self._left, self._lost = plan.num_videos, list[int]()
        self._number = 0
        self._events: list[tuple[float, int, int]] = []  # time, bundle's number or -1, its worker or the machine lost
        self._held: dict[int, _Bundle] = {}
        self._idle: set[int] = set()
        start = RATES["start"].value + plan.num_done * RATES["resume"].value
        self._ready = [start] * (plan.num_machines * plan.num_workers)
        self._driver_free = self._driver_work = 0.0
        self._result = Result()

    def run(self) -> Result:
        """Plays until nothing is left to do."""
        for machine in range(self.plan.num_machines):
            self._plan_loss(machine, 0.0)
        for worker in range(len(self._ready)):
            self._give(worker, 0.0)
        while self._held:
            now, number, index = heapq.heappop(self._events)
            if number < 0:
                self._lose(index, now)
            elif index in self._held and self._held[index].number == number:
                self._take(index, now)
        self._result.hours = self._driver_free / HOUR
        self._result.driver_share = self._driver_work / self._driver_free
        return self._result

    def _give(self, worker: int, now: float) -> None:
        """Lets a worker begin a bundle, one that was lost before any other."""
        if self._lost:
            size = self._lost.pop()
        else:
            size = min(self.plan.bundle, self._left)
            self._left -= size
        if not size:
            self._idle.add(worker)
            return
        self._idle.discard(worker)
        self._number += 1
        bundle = _Bundle(self._number, size, self._seconds(size))
        self._held[worker] = bundle
        heapq.heappush(self._events, (max(now, self._ready[worker]) + bundle.seconds, bundle.number, worker))

    def _take(self, worker: int, now: float) -> None:
        """The driver writes what a worker has done; the worker goes on with the bundle that it has in reserve."""
        bundle = self._held.pop(worker)
        work = RATES["bundle"].value + bundle.size * RATES["write"].value
        self._driver_free = max(self._driver_free, now) + work
        self._driver_work += work
        failed = self._count(bundle.size, RATES["broken"].value)
        self._result.num_failed += failed
        self._result.num_done += bundle.size - failed
        # one bundle in reserve: a worker waits only for a driver that is behind by more than that
        self._give(worker, max(now, self._driver_free - bundle.seconds))

    def _lose(self, machine: int, now: float) -> None:
        """A machine ends; what it held goes to whoever is free."""
        self._result.num_losses += 1
        back = now + RATES["replace"].value + RATES["start"].value
        for worker in range(machine * self.plan.num_workers, (machine + 1) * self.plan.num_workers):
            self._ready[worker] = back
            if (bundle := self._held.pop(worker, None)) is not None:
                self._lost.append(bundle.size)
                self._result.num_repeated += bundle.size
                self._idle.add(worker)
        for worker in sorted(self._idle, key=lambda worker: (self._ready[worker], worker)):
            if self._lost or self._left:
                self._give(worker, now)
        self._plan_loss(machine, back)

    def _plan_loss(self, machine: int, now: float) -> None:
        after = self._chance.expovariate(1 / (self.plan.hours_between_losses * HOUR))
        heapq.heappush(self._events, (now + after, -1, machine))

    def _seconds(self, size: int) -> float:
        """Time of a worker for a bundle: videos vary by half of their mean, and some hang."""
        mean = size * self.plan.video_seconds
        varied = max(0.1 * mean, self._chance.gauss(mean, 0.5 * mean / math.sqrt(size)))
        return varied + self._count(size, RATES["hanging"].value) * LIMIT_SECONDS

    def _count(self, size: int, share: float) -> int:
        """How many of so many videos are of a sort that makes up a share of all."""
        count, at = 0, 0
        while (at := at + 1 + int(math.log(1 - self._chance.random()) / math.log(1 - share))) <= size:
            count += 1
        return count


CPUS = Plan("cores only", cores=64, gpus=0, num_machines=64)
GPUS = Plan("machines of 8 GPUs", num_machines=4)
LENT = Plan("lent machines of 1 GPU", num_machines=64, cores=16, gpus=1, hours_between_losses=6)
PLANS = [
    replace(GPUS, name="one machine of 8 GPUs", num_machines=1),
    GPUS,
    replace(GPUS, num_machines=32),
    LENT,
    CPUS,
    replace(GPUS, name="machines of 8 GPUs, dense windows", num_windows=16),
]
TABLE = tuple[Sequence[str], list[Sequence[str]]]


def rates_table() -> TABLE:
    """The rates, measured and assumed in columns of their own."""
    rows = []
    for rate in RATES.values():
        text = f"{rate.value:,.6g} {rate.unit}"
        rows.append((rate.text, text if rate.is_measured else "", "" if rate.is_measured else text, rate.source))
    return ("", "measured", "assumed", "source"), rows


def plans_table(plans: Sequence[Plan]) -> TABLE:
    """Time and cost of each plan."""
    head = ("plan", "machines", "windows a video", "without losses h", "simulated h", "core-h", "GPU-h", "lost",
            "repeated videos", "failed videos", "driver busy", "stored GB")  # fmt: skip
    rows = []
    for plan in plans:
        result = Simulation(plan).run()
        machine_hours = result.hours * plan.num_machines
        rows.append((
            plan.name, f"{plan.num_machines} x {plan.cores} cores" + f", {plan.gpus} GPU" * bool(plan.gpus),
            f"{plan.num_windows}", f"{plan.ideal_hours:.1f}", f"{result.hours:.1f}",
            f"{machine_hours * plan.cores:,.0f}", f"{machine_hours * plan.gpus:,.0f}", f"{result.num_losses:,}",
            f"{result.num_repeated:,}", f"{result.num_failed:,}", f"{result.driver_share:.1%}",
            f"{plan.bytes_stored / 1e9:,.0f}",
        ))  # fmt: skip
    return head, rows


def losses_table(plan: Plan, hours: Sequence[float]) -> TABLE:
    """What losses of machines add to a plan."""
    calm = Simulation(replace(plan, hours_between_losses=1e9)).run()
    head = ("a machine is lost every", "bundle", "machines lost", "videos done again", "longer by")
    rows = []
    for between in hours:
        for bundle in (32, 256):
            result = Simulation(replace(plan, hours_between_losses=between, bundle=bundle)).run()
            rows.append((
                f"{between:g} h", f"{bundle}", f"{result.num_losses:,}",
                f"{result.num_repeated:,} ({result.num_repeated / plan.num_videos:.2%})",
                f"{result.hours / calm.hours - 1:.1%}",
            ))  # fmt: skip
    return head, rows


def speeds_table(plan: Plan, speeds: Sequence[float]) -> TABLE:
    """What hangs on the rate of a GPU: hours, and cores that keep it busy."""
    head = ("windows/s of a GPU", "bounded by", "simulated h", "cores for each GPU so that decoding keeps up")
    rows = []
    for speed in speeds:
        faster = replace(plan, windows_per_second=speed)
        cores = speed / plan.num_windows * plan.core_seconds
        bound = "decoding" if cores > plan.cores / plan.gpus else "the model"
        rows.append((f"{speed:g}", bound, f"{Simulation(faster).run().hours:.1f}", f"{math.ceil(cores)}"))
    return head, rows


def markdown(table: TABLE) -> str:
    """A table as docs/scale.md has it."""
    head, rows = table
    rule = ["---", *["--:"] * (len(head) - 1)] if rows[0][-1][:1].isdigit() else ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def tables() -> Iterator[str]:
    """The tables of docs/scale.md in their order."""
    yield markdown(rates_table())
    yield markdown(plans_table(PLANS))
    yield markdown(losses_table(LENT, (1, 6, 24)))
    yield markdown(speeds_table(GPUS, (50, 100, 200, 400)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--videos", type=int, metavar="N", help="a plan of one's own instead of the tables")
    parser.add_argument("--windows", type=int, default=9, help="of each video (default: %(default)s)")
    parser.add_argument("--machines", type=int, default=1, metavar="N")
    parser.add_argument("--cores", type=int, default=96, help="of a machine (default: %(default)s)")
    parser.add_argument("--gpus", type=int, default=8, help="of a machine (default: %(default)s)")
    parser.add_argument("--windows-per-second", type=float, default=RATES["gpu"].value, metavar="X", help="of a GPU")
    parser.add_argument("--hours-between-losses", type=float, default=1000, metavar="X", help="of a machine")
    args = parser.parse_args()
    if args.videos is None:
        print("\n\n".join(tables()))
        return
    plan = Plan(
        "yours", args.videos, args.windows, args.machines, args.cores, args.gpus, args.windows_per_second,
        args.hours_between_losses,
    )  # fmt: skip
    print(markdown(plans_table([plan])))


if __name__ == "__main__":
    main()
