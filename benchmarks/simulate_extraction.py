"""Estimate of extracting features of very many videos: hours, machines, storage, and the cost of failures.

A discrete simulation of `mvit-video extract --engine ray`: workers decode and transform videos on their cores beside
the model and hand the features to one process, the caller, which writes them and notes them in the ledger. Machines are
lost at random with the videos that they work on, and come back later; some videos are broken or hang. To be quick, it
counts videos in stretches. Rates that were not measured say so. It prints the tables of docs/guides/many-machines.md.

    python benchmarks/simulate_extraction.py
    python benchmarks/simulate_extraction.py --videos 250000 --machines 4 --cores 96 --gpus 8 --windows-per-second 300
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
    """A number that the estimate depends on; `source` says where it was measured, or why it is assumed."""

    text: str
    value: float
    unit: str
    is_measured: bool
    source: str


RATES = {
    "decode": Rate("decode a video of 10 s, 340x256 H.264", 0.16, "core-s a video", True, "bench_extract.py"),
    "transform": Rate("resize, crop, stack 9 windows of it", 0.05, "core-s a video", True, "bench_extract.py"),
    "cpu": Rate("MViT-B 16x4 on a core, bfloat16", 0.91, "core-s a window", True, "benchmarks/model.md"),
    "gpu": Rate(
        "MViT-B 16x4 on a GPU, half precision", 100, "windows/s", False,
        "a guess, below the 134 clips/s of Hiera-B on an A100 (Hiera's README)",
    ),
    "give": Rate("caller: give a video, take its features", 0.76e-3, "core-s a video", True, "bench_cluster.py"),
    "write": Rate("caller: write features and ledger", 0.37e-3, "core-s a video", True, "bench_cluster.py"),
    "resume": Rate("caller: find out what is done", 4.6e-6, "core-s a video", True, "bench_cluster.py"),
    "start": Rate("worker: import, build MViT-B", 11, "core-s", True, "see above"),
    "window_bytes": Rate("features of a window, float16", 1540, "bytes", True, "bench_cluster.py"),
    "video_bytes": Rate("ledger and manifest of a video", 58, "bytes", True, "bench_cluster.py"),
    "broken": Rate("videos that cannot be decoded", 0.01, "of all", False, "`mvit-video scan` of a sample says"),
    "hanging": Rate("videos that hang, each for 3 x 120 s", 1e-5, "of all", False, "none of those tried here did"),
    "replace": Rate("until a lost machine is replaced", 300, "s", False, "the provider's matter"),
}  # fmt: skip
HANGING_SECONDS = 3 * 120.0
WORKERS_PER_GPU = 8
STRETCH = 128


@dataclass(frozen=True)
class Plan:
    """An extraction and the machines for it.

    Attributes:
        cores: of a machine.
        gpus: of a machine; without any the model runs on the cores.
        windows_per_second: of one GPU.
        hours_between_losses: mean time from the start of a machine to its loss.
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
    num_done: int = 0
    seed: int = 0

    @property
    def cores_used(self) -> int:
        """Cores of a machine that have a worker."""
        return min(self.cores, WORKERS_PER_GPU * self.gpus) if self.gpus else self.cores

    @property
    def num_workers(self) -> int:
        """Workers of one machine; those of a GPU count as one here, that has all of their cores."""
        return self.gpus or self.cores

    @property
    def core_seconds(self) -> float:
        """Work of cores on a video."""
        model = 0.0 if self.gpus else self.num_windows * RATES["cpu"].value
        return RATES["decode"].value + self.num_windows / 9 * RATES["transform"].value + model

    @property
    def video_seconds(self) -> float:
        """Time of a worker for a video, with decoding and the model side by side."""
        on_gpu = self.num_windows / self.windows_per_second if self.gpus else 0.0
        return max(self.core_seconds * self.num_workers / self.cores_used, on_gpu)

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
    """Result of a plan.

    Attributes:
        num_repeated: videos that were begun, lost with their machine and done again.
        caller_share: part of the time in which the caller worked.
    """

    hours: float = 0.0
    num_done: int = 0
    num_failed: int = 0
    num_losses: int = 0
    num_repeated: int = 0
    caller_share: float = 0.0


class _Stretch(NamedTuple):
    """Videos that a worker processes in sequence."""

    number: int
    size: int
    begin: float
    seconds: float


class Simulation:
    """Simulation of a plan, event by event."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._chance = random.Random(plan.seed)
        self._left = plan.num_videos
        self._number = 0
        self._events: list[tuple[float, int, int]] = []  # time, stretch or -1, its worker or the machine lost
        self._held: dict[int, _Stretch] = {}
        self._idle: set[int] = set()
        start = RATES["start"].value + plan.num_done * RATES["resume"].value
        self._ready = [start] * (plan.num_machines * plan.num_workers)
        self._caller_free = self._caller_work = 0.0
        # one worker of a GPU hangs while the others continue
        self._hanging_seconds = HANGING_SECONDS * plan.num_workers / plan.cores_used
        self._result = Result()

    def run(self) -> Result:
        """Simulate until nothing is left to do."""
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
        self._result.hours = self._caller_free / HOUR
        self._result.caller_share = self._caller_work / self._caller_free
        return self._result

    def _give(self, worker: int, now: float) -> None:
        """Start a worker on a stretch."""
        # shorter towards the end, where everything waits for the last one
        size = min(STRETCH, math.ceil(self._left / (2 * len(self._ready))))
        if not size:
            self._idle.add(worker)
            return
        self._idle.discard(worker)
        self._left -= size
        self._number += 1
        stretch = _Stretch(self._number, size, max(now, self._ready[worker]), self._seconds(size))
        self._held[worker] = stretch
        heapq.heappush(self._events, (stretch.begin + stretch.seconds, stretch.number, worker))

    def _take(self, worker: int, now: float) -> None:
        """Hand over a finished stretch; the worker continues unless the caller is behind."""
        stretch = self._held.pop(worker)
        self._write(stretch.size, now)
        self._give(worker, max(now, self._caller_free - stretch.seconds))

    def _write(self, size: int, now: float) -> None:
        """Let the caller take and write a finished stretch."""
        work = size * (RATES["give"].value + RATES["write"].value)
        self._caller_free = max(self._caller_free, now) + work
        self._caller_work += work
        failed = self._count(size, RATES["broken"].value)
        self._result.num_failed += failed
        self._result.num_done += size - failed

    def _lose(self, machine: int, now: float) -> None:
        """Lose a machine; its unfinished videos go to free workers."""
        self._result.num_losses += 1
        back = now + RATES["replace"].value + RATES["start"].value
        for worker in range(machine * self.plan.num_workers, (machine + 1) * self.plan.num_workers):
            self._ready[worker] = back
            if (stretch := self._held.pop(worker, None)) is not None:
                done = int(stretch.size * max(0.0, now - stretch.begin) / stretch.seconds)
                self._write(done, now)
                self._left += stretch.size - done
                self._result.num_repeated += now > stretch.begin
                self._idle.add(worker)
        for worker in sorted(self._idle, key=lambda worker: (self._ready[worker], worker)):
            self._give(worker, now)
        self._plan_loss(machine, back)

    def _plan_loss(self, machine: int, now: float) -> None:
        after = self._chance.expovariate(1 / (self.plan.hours_between_losses * HOUR))
        heapq.heappush(self._events, (now + after, -1, machine))

    def _seconds(self, size: int) -> float:
        """Time of a worker for a stretch: videos vary by half of their mean, and some hang."""
        mean = size * self.plan.video_seconds
        varied = max(0.1 * mean, self._chance.gauss(mean, 0.5 * mean / math.sqrt(size)))
        return varied + self._count(size, RATES["hanging"].value) * self._hanging_seconds

    def _count(self, size: int, share: float) -> int:
        """Draw how many of so many videos are of a kind with this share."""
        count, at, scale = 0, 0, 1 / math.log(1 - share)
        while (at := at + 1 + int(math.log(1 - self._chance.random()) * scale)) <= size:
            count += 1
        return count


CPUS = Plan("cores only", cores=64, gpus=0, num_machines=64)
GPUS = Plan("machines of 8 GPUs", num_machines=4)
LENT = Plan("spot machines of 1 GPU", num_machines=64, cores=16, gpus=1, hours_between_losses=6)
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
    """Return the rates, measured and assumed ones in separate columns."""
    rows = []
    for rate in RATES.values():
        text = f"{rate.value:,.6g} {rate.unit}"
        rows.append((rate.text, text if rate.is_measured else "", "" if rate.is_measured else text, rate.source))
    return ("", "measured", "assumed", "source"), rows


def plans_table(plans: Sequence[Plan]) -> TABLE:
    """Return the time and cost of each plan."""
    head = ("plan", "machines", "windows a video", "ideal h", "simulated h", "core-h", "GPU-h", "machines lost",
            "done again", "failed", "caller busy", "stored GB")  # fmt: skip
    rows = []
    for plan in plans:
        result = Simulation(plan).run()
        machine_hours = result.hours * plan.num_machines
        rows.append((
            plan.name, f"{plan.num_machines} x {plan.cores} cores" + f", {plan.gpus} GPU" * bool(plan.gpus),
            f"{plan.num_windows}", f"{plan.ideal_hours:.1f}", f"{result.hours:.1f}",
            f"{machine_hours * plan.cores:,.0f}", f"{machine_hours * plan.gpus:,.0f}", f"{result.num_losses:,}",
            f"{result.num_repeated:,}", f"{result.num_failed:,}", f"{result.caller_share:.1%}",
            f"{plan.bytes_stored / 1e9:,.0f}",
        ))  # fmt: skip
    return head, rows


def losses_table(plan: Plan, hours: Sequence[float]) -> TABLE:
    """Return the cost of lost machines."""
    calm = Simulation(replace(plan, hours_between_losses=1e9)).run()
    rows = []
    for between in hours:
        result = Simulation(replace(plan, hours_between_losses=between)).run()
        longer = f"{result.hours / calm.hours - 1:.1%}"
        rows.append((f"{between:g} h", f"{result.num_losses:,}", f"{result.num_repeated:,}", longer))
    return ("a machine is lost every", "machines lost", "videos done again", "longer by"), rows


def resume_table(plan: Plan, shares: Sequence[float]) -> TABLE:
    """Return the cost of stopping the caller after a share of the work, and the rest of the work."""
    rows = []
    for share in shares:
        done = int(plan.num_videos * share)
        rest = Simulation(replace(plan, num_videos=plan.num_videos - done, num_done=done)).run()
        again = done * RATES["resume"].value
        rows.append((f"{share:.0%}", f"{again:.0f}", f"{rest.hours:.1f}"))
    return ("done before", "to find out what is done s", "then left h"), rows


def speeds_table(plan: Plan, speeds: Sequence[float]) -> TABLE:
    """Return what depends on the rate of a GPU: hours, and cores that keep it busy."""
    head = ("windows/s of a GPU", "bounded by", "simulated h", "cores a GPU that decoding needs")
    rows = []
    for speed in speeds:
        faster = replace(plan, windows_per_second=speed)
        cores = speed / plan.num_windows * plan.core_seconds
        bound = "decoding" if cores > plan.cores_used / plan.gpus else "the model"
        rows.append((f"{speed:g}", bound, f"{Simulation(faster).run().hours:.1f}", f"{math.ceil(cores)}"))
    return head, rows


def markdown(table: TABLE) -> str:
    """Format a table as in docs/guides/many-machines.md."""
    head, rows = table
    rule = ["---", *["--:"] * (len(head) - 1)] if rows[0][-1][:1].isdigit() else ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def tables() -> Iterator[str]:
    """Return the tables of docs/guides/many-machines.md in order."""
    yield markdown(rates_table())
    yield markdown(plans_table(PLANS))
    yield markdown(losses_table(LENT, (1, 6, 24)))
    yield markdown(resume_table(GPUS, (0.1, 0.5, 0.9)))
    yield markdown(speeds_table(GPUS, (50, 100, 200, 400)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, metavar="N", help="a plan of one's own instead of the tables")
    parser.add_argument("--windows", type=int, default=9, help="of each video (default: %(default)s)")
    parser.add_argument("--machines", type=int, default=1)
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
