"""Extraction on a Ray cluster: actors hold the model and take videos, the caller gets features and alone writes them.

Actors rather than Ray Data, which waits for ever when actors hold every CPU (ray#44687) and does not report which
video ended its process.
"""

from __future__ import annotations

import copy
import logging
import socket
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

from mvit_video.features.engines.ray_pool import VERSION, Pool, Start
from mvit_video.features.extraction import Outcome
from mvit_video.features.extractor import Extractor, ExtractSettings
from mvit_video.features.videos import Video, VideoFeatures
from mvit_video.jobs import WorkFailure
from mvit_video.jobs.hangs import EndOfHung
from mvit_video.runs.trained_model import TrainedModel
from mvit_video.types import ConfigError, MVitVideoError, VideoDecodeError

# some decode while another has the GPU
_WORKERS_PER_GPU = 8
_SECONDS_TO_ANSWER = 10.0


class Machine(NamedTuple):
    """CPUs and GPUs of a machine."""

    cpus: float
    gpus: float


class Places(NamedTuple):
    """Number of workers, with one CPU each, and the share of a GPU of each (0 on a CPU)."""

    num_workers: int
    gpus: float


def plan_places(machines: Sequence[Machine], device: str, num_workers: int | None) -> Places:
    """Return places for `num_workers` workers, by default as many as fit; several share a GPU.

    Args:
        device: "auto" is the GPUs where there are some.

    Raises:
        ConfigError: the cluster has no room.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device must be auto, cpu or cuda with --engine ray, got {device!r}")
    on_gpu = device == "cuda" or (device == "auto" and any(machine.gpus >= 1 for machine in machines))
    has = f"the cluster has {sum(machine.cpus for machine in machines):g} CPUs"
    has += f" and {sum(machine.gpus for machine in machines):g} GPUs" if on_gpu else ""
    has += f" on {len(machines)} machine" + ("s" if len(machines) != 1 else "")
    if on_gpu:
        holders = [machine for machine in machines if machine.gpus >= 1]
        if not holders:
            raise ConfigError(f"--device {device} needs a GPU, {has}; add a machine that has one, or use --device cpu")
        per_gpu = int(min(sum(m.cpus for m in holders) // sum(int(m.gpus) for m in holders), _WORKERS_PER_GPU))
        per_gpu = max(per_gpu, 1)
        room = sum(int(min(machine.cpus, int(machine.gpus) * per_gpu)) for machine in holders)
    else:
        per_gpu = 0
        room = sum(int(machine.cpus) for machine in machines)
    if not room:
        raise ConfigError(f"a worker needs 1 CPU on one machine, {has}; add machines, or give them more CPUs")
    if num_workers is not None and num_workers > room:
        raise ConfigError(
            f"--workers {num_workers} needs {num_workers} CPUs, {has} with room for {room}; "
            f"give --workers {room} or fewer, or add machines"
        )
    return Places(num_workers or room, 1 / per_gpu if per_gpu else 0.0)


@dataclass(frozen=True)
class Cluster:
    """A cluster and its use.

    Attributes:
        address: head of the cluster, such as `10.0.0.1:6379`; None starts one on this machine.
        device: "auto" is the GPUs where there are some, else "cuda" or "cpu".
        num_workers: actors; None is as many as fit.
        limit_seconds: CPU time without a heartbeat, and wall-clock time without CPU time, after which a worker counts
            as hung.
    """

    address: str | None = None
    device: str = "auto"
    num_workers: int | None = None
    limit_seconds: float = 120.0


def extract_on_ray(
    videos: Iterable[Video],
    extractor: Extractor,
    cluster: Cluster,
    count_windows: Callable[[int], None] = lambda num_windows: None,
) -> Generator[Outcome, None, None]:
    """Yield the features of videos, or their failures, as they become ready.

    The machines of the cluster read the videos.

    Args:
        count_windows: called with the number of windows that were computed.

    Raises:
        ConfigError: Ray is not installed, no cluster is at the address, or it has no room.
        MVitVideoError: workers cannot start.
    """
    remaining = iter(videos)
    first = next(remaining, None)
    if first is None:
        return
    with _connected(cluster.address) as ray:
        machines = [
            Machine(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
            for node in ray.nodes()
            if node["Alive"]
        ]
        places = plan_places(machines, cluster.device, cluster.num_workers)
        settings = replace(extractor.settings, device="cuda" if places.gpus else "cpu")
        trained = ray.put(replace(extractor.trained, net=copy.deepcopy(extractor.trained.net).cpu()))
        actor = ray.remote(num_cpus=1, num_gpus=places.gpus, max_restarts=0, scheduling_strategy="SPREAD")(_Actor)
        pool = Pool[Video, VideoFeatures](
            ray, lambda: actor.remote(settings, trained, cluster.limit_seconds), extractor.key, places.num_workers
        )
        try:
            for video, outcome in pool.outcomes(chain([first], remaining)):
                if isinstance(outcome, VideoFeatures):
                    count_windows(len(outcome.feature))
                yield video, outcome
        finally:
            pool.end()


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Open a connection to a cluster and return the module `ray`; keep a connection that the caller has.

    Raises:
        ConfigError: Ray is not installed, or no cluster is at the address.
        MVitVideoError: none can be started.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError("--engine ray needs Ray: pip install 'mvit-video[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    own: dict[str, Any] = {"include_dashboard": False} if address is None else {}
    if address is not None:
        _require_answer(address)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # Ray raises bare ones
        reason = str(error).partition("\n")[0]
        if address is None:
            raise MVitVideoError(f"--engine ray: Ray does not start on this machine ({reason})") from error
        raise ConfigError(f"--address {address}: no Ray cluster answers ({reason}); see `ray start --help`") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Refuse an address without a server, where Ray would wait for ever."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ConfigError(f"--address must be HOST:PORT of the head of a Ray cluster, got {address!r}")
    try:
        socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"--address {address}: no Ray cluster answers ({reason}); see `ray start --help`") from error


class _Actor:
    """Process of the cluster with a model."""

    def __init__(self, settings: ExtractSettings, trained: TrainedModel, limit_seconds: float) -> None:
        self._guard = EndOfHung(limit_seconds)
        self._extractor: Extractor | None = None
        self._trouble = ""
        try:
            self._extractor = Extractor(settings, trained)
        except Exception as error:  # raised here it would end the actor
            self._trouble = f"{type(error).__name__}: {error}"

    def begin(self) -> Start:
        import ray  # pyright: ignore[reportMissingImports]

        context = ray.get_runtime_context()
        key = self._extractor.key if self._extractor else ""
        return Start(context.get_node_id(), ray.util.get_node_ip_address(), VERSION, key, self._trouble)

    def work(self, video: Video) -> VideoFeatures | WorkFailure:
        assert self._extractor is not None
        try:
            with self._guard.watching() as heartbeat:
                return self._extractor.extract(video, heartbeat)
        except VideoDecodeError as error:
            return WorkFailure("error", error.reason)
        except Exception as error:  # one video must not stop the others
            return WorkFailure("error", f"{type(error).__name__}: {error}")
