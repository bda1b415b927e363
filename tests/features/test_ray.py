"""Extraction on a cluster: machines that end, workers that die, clusters without room."""

import math
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import av
import numpy as np
import pytest
import torch

import mvit_video as mv
from mvit_video import __version__
from mvit_video.features import Extractor, ExtractSettings, Video, VideoFeatures
from mvit_video.features.engines import ray_pool
from mvit_video.features.engines.ray import Cluster, Machine, Places, extract_on_ray, plan_places
from mvit_video.features.engines.ray_pool import Pool
from mvit_video.jobs import WorkFailure
from mvit_video.models import Patch, mvit
from mvit_video.types import ConfigError, MVitVideoError, VideoDecodeError

Machines: TypeAlias = tuple[ModuleType, Callable[[], None]]
NO_RAY = "Ray is not installed: pip install 'mvit-video[ray]'"
OBJECT_STORE_BYTES = 80 * 2**20
# Ray's own
RAY_WARNS = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")


def test_workers_have_one_cpu_each_and_share_the_gpus() -> None:
    assert plan_places([Machine(4, 0), Machine(2.5, 0)], "auto", None) == Places(6, 0.0)
    assert plan_places([Machine(4, 0)], "auto", 3) == Places(3, 0.0)
    assert plan_places([Machine(16, 4), Machine(16, 0)], "auto", None) == Places(16, 1 / 4)
    assert plan_places([Machine(96, 2)], "cuda", None) == Places(16, 1 / 8)
    assert plan_places([Machine(2, 8)], "auto", None) == Places(2, 1.0)
    assert plan_places([Machine(16, 4)], "cpu", None) == Places(16, 0.0)


@pytest.mark.parametrize(
    ("machines", "device", "num_workers", "words"),
    [
        ([Machine(2, 0), Machine(1, 0)], "auto", 4, "--workers 4 needs 4 CPUs, the cluster has 3 CPUs on 2 machines"),
        ([Machine(1.5, 0), Machine(1.5, 0)], "auto", 3, "has 3 CPUs on 2 machines with room for 2; give --workers 2"),
        ([Machine(0.5, 0)], "auto", None, "a worker needs 1 CPU on one machine, the cluster has 0.5 CPUs on 1 machine"),
        ([Machine(0, 8)], "auto", None, "needs 1 CPU on one machine, the cluster has 0 CPUs and 8 GPUs on 1 machine"),
        ([Machine(8, 0)], "cuda", None, "--device cuda needs a GPU, the cluster has 8 CPUs and 0 GPUs on 1 machine"),
        ([], "auto", None, "the cluster has 0 CPUs on 0 machines"),
    ],
)
def test_a_cluster_without_room_is_refused(
    machines: list[Machine], device: str, num_workers: int | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_places(machines, device, num_workers)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "--address 127.0.0.1:1: no Ray cluster answers (Connection refused); see"),
        ("ray://head:10001", "--address must be HOST:PORT of the head of a Ray cluster, got 'ray://head:10001'"),
        ("head", "--address must be HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster_is_refused_at_once(
    address: str, words: str, extractor: Extractor, files: list[Path]
) -> None:
    pytest.importorskip("ray", reason=NO_RAY)
    with pytest.raises(ConfigError, match=re.escape(words)):
        next(extract_on_ray([Video("a", files[0])], extractor, Cluster(address)))


@pytest.fixture(scope="module")
def two_machines() -> Iterator[Machines]:
    """Ray on a cluster of two local nodes with one CPU each, and a function that ends the second abruptly."""
    ray = pytest.importorskip("ray", reason=NO_RAY)
    from ray.cluster_utils import Cluster as LocalCluster

    size: dict[str, Any] = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES}
    size |= {"include_dashboard": False, "include_log_monitor": False}
    # not pytest's folder, whose name is too long for the sockets in it
    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        (Path(folder) / "ray").mkdir()
        patch.setenv("RAY_TMPDIR", folder)
        # Ray takes a busy machine for a lost one; one that has really ended refuses the connection at once
        patch.setenv("RAY_raylet_start_wait_time_s", "3600")
        patch.setenv("RAY_worker_register_timeout_seconds", "3600")
        patch.setenv("RAY_health_check_timeout_ms", "3600000")
        patch.setattr(ray_pool, "_SECONDS_TO_START", math.inf)
        local = LocalCluster(initialize_head=True, head_node_args=size | {"no_monitor": True})
        try:
            second = local.add_node(**size)
            ray.init(address=local.address, log_to_driver=False, logging_level="ERROR")
            yield ray, lambda: local.remove_node(second, allow_graceful=False)
        finally:
            ray.shutdown()
            local.shutdown()


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> Extractor:
    """One that is quick; it takes windows one by one, as several at once give other last bits."""
    torch.manual_seed(0)
    net = mvit(num_classes=3, num_frames=4, crop_size=16, depths=(1, 1), embed_dim=8, patch=Patch((1, 8, 8), (1, 8, 8)))
    file = tmp_path_factory.mktemp("weights") / "net.safetensors"
    mv.save_checkpoint(net, file)
    return Extractor(ExtractSettings(str(file), window="8", stride="4", batch_size=1, device="cpu"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Videos of several lengths, one of which is none."""
    folder = tmp_path_factory.mktemp("videos")
    found = []
    for number, num_frames in enumerate((5, 12, 30, 17)):
        path = folder / f"{number}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
            for i in range(num_frames):
                picture = np.full((24, 32, 3), 40 * number, np.uint8)
                picture[:, : i + 1] = 200
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        found.append(path)
    broken = folder / "broken.mp4"
    broken.write_bytes(found[2].read_bytes()[:500])
    return [*found, broken]


def as_rows(outcomes: Iterable[tuple[Video, VideoFeatures | WorkFailure]]) -> dict[str, Any]:
    """What is known of each video; fails where one comes twice."""
    rows: dict[str, Any] = {}
    for video, outcome in outcomes:
        assert video.path not in rows
        if isinstance(outcome, WorkFailure):
            rows[video.path] = outcome
        else:
            assert outcome.video == video
            arrays = (outcome.feature, outcome.start_seconds, outcome.end_frame, outcome.num_padded)
            rows[video.path] = [(array.dtype, array.shape, array.tobytes()) for array in arrays]
    return rows


def extracted_here(extractor: Extractor, video: Video) -> VideoFeatures | WorkFailure:
    try:
        return extractor.extract(video)
    except VideoDecodeError as error:
        return WorkFailure("error", error.reason)


@RAY_WARNS
def test_too_few_cpus_are_told_at_once(two_machines: Machines, extractor: Extractor, files: list[Path]) -> None:
    with pytest.raises(ConfigError, match="--workers 3 needs 3 CPUs, the cluster has 2 CPUs on 2 machines"):
        next(extract_on_ray([Video("a", files[0])], extractor, Cluster(num_workers=3)))


@pytest.mark.slow
@RAY_WARNS
def test_a_machine_that_ends_loses_no_video(two_machines: Machines, extractor: Extractor, files: list[Path]) -> None:
    _, end_second_machine = two_machines
    drawn: list[Video] = []
    is_ended = False

    def draw() -> Iterator[Video]:
        """Videos until the second machine has ended, and some more."""
        for number in count():
            drawn.append(Video(f"{number}.mp4", files[number % len(files)], number))
            yield drawn[-1]
            if is_ended:
                break
        for number in range(len(drawn), len(drawn) + 12):
            drawn.append(Video(f"{number}.mp4", files[number % len(files)], number))
            yield drawn[-1]

    def watched() -> Iterator[tuple[Video, VideoFeatures | WorkFailure]]:
        nonlocal is_ended
        windows: list[int] = []
        found = extract_on_ray(draw(), extractor, Cluster(), windows.append)
        for number, (video, outcome) in enumerate(found, start=1):
            # a worker has two videos at most: with more on the way, both machines are at work
            if not is_ended and len(drawn) - number >= 2:
                end_second_machine()
                is_ended = True
            yield video, outcome

    rows = as_rows(watched())
    assert is_ended
    assert rows == as_rows((video, extracted_here(extractor, video)) for video in drawn)
    assert sum(isinstance(outcome, WorkFailure) for outcome in rows.values()) == len(drawn) // len(files)


class Deadly:
    """An actor that one item ends; needs no torch, which is slow to import."""

    def __init__(self, key: str = "key", failure: str = "") -> None:
        self.key, self.failure = key, failure

    def begin(self) -> tuple[str, ...]:
        import ray

        return ray.get_runtime_context().get_node_id(), "10.0.0.1", __version__, self.key, self.failure

    def work(self, item: str) -> str:
        import os

        if item == "deadly":
            os._exit(1)
        return item.upper()


def pool_of(ray: ModuleType, *words: str) -> Pool[str, str]:
    """One worker that the tests' machine has room for."""
    # pickled whole: the module of a test cannot be imported elsewhere
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    actor = ray.remote(num_cpus=1)(Deadly)
    return Pool(ray, lambda: actor.remote(*words), "key", 1)


@RAY_WARNS
def test_a_video_that_ends_its_process_is_given_up_and_the_others_are_done(two_machines: Machines) -> None:
    pool = pool_of(two_machines[0])
    items = ["a", "b", "deadly", "c", "d"]
    outcomes = dict(pool.outcomes(items))
    pool.end()
    assert sorted(outcomes) == sorted(items)
    failure = outcomes.pop("deadly")
    assert isinstance(failure, WorkFailure)
    assert failure.kind == "crash"
    assert "its process ended 3 times" in failure.reason
    assert outcomes == {item: item.upper() for item in "abcd"}


@RAY_WARNS
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("key", "CheckpointError: damaged"), "machine 10.0.0.1: CheckpointError: damaged"),
        (("other",), "has mvit_video .* and key other, this one .* and key; give all machines the same package"),
    ],
)
def test_a_machine_that_would_give_other_features_stops_the_run(
    two_machines: Machines, words: tuple[str, ...], message: str
) -> None:
    pool = pool_of(two_machines[0], *words)
    with pytest.raises(MVitVideoError, match=message):
        list(pool.outcomes(["a"]))
    pool.end()
