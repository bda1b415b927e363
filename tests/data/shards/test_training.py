"""What is trained from shards is what is trained from the files that were packed into them."""

from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed

from mvit_video.curation.packing import PackSettings, pack_videos
from mvit_video.data import ClipBatch, VideoDataset, VideoTable, load_annotations
from mvit_video.data.clips.views import RandomView, UniformViews
from mvit_video.data.loader import EpochSampler, VideoLoader
from mvit_video.data.settings import InputSpec, LoadingSpec
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import ClipSpec, VideoDecodeError, ViewSpec
from tests.fixtures.data import OddVideos

pytestmark = pytest.mark.usefixtures("own_cache")

CLIP = ClipSpec(num_frames=2, sampling_rate=3)
VIDEOS = ("closed_gop", "open_gop", "hevc", "variable_rate", "rotated", "matroska", "edit_list")


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory, odd_videos: OddVideos) -> VideoTable:
    """Videos in files, of kinds that one backend or another reads; one of them in two parts."""
    folder = tmp_path_factory.mktemp("loose")
    names = [odd_videos(name).name for name in VIDEOS]
    for name in VIDEOS:
        (folder / odd_videos(name).name).symlink_to(odd_videos(name))
    spans = np.full((8, 2), np.nan)
    spans[0], spans[7] = (0.0, 0.5), (0.5, 1.2)
    paths = pa.array([*names, names[0]])
    return VideoTable(paths, np.arange(8) % 3, ("a", "b", "c"), folder, spans=spans)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, loose: VideoTable) -> VideoTable:
    """The same videos in shards, in another order there."""
    out = tmp_path_factory.mktemp("packed")
    assert pack_videos(loose, str(out), PackSettings(max_videos=3)).num_shards == 3
    return load_annotations(out)


def make_loader(table: VideoTable, num_workers: int = 0) -> VideoLoader:
    dataset = VideoDataset(table, RandomView(CLIP, 32), backend="pyav", seed=5)
    sampler = EpochSampler(len(table), shuffle=True, even=True, seed=5)
    return VideoLoader(dataset, batch_size=2, sampler=sampler, num_workers=num_workers)


def read_epochs(loader: VideoLoader, num_epochs: int = 2) -> list[ClipBatch]:
    batches: list[ClipBatch] = []
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        batches += list(loader)
    return batches


def assert_same(ones: list[ClipBatch], others: list[ClipBatch]) -> None:
    assert len(ones) == len(others) > 0
    for one, other in zip(ones, others, strict=True):
        assert one.failures == other.failures == []
        for name in ("clip", "label", "video", "view"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("num_workers", [0, 2])
def test_shards_give_the_batches_of_the_files(loose: VideoTable, packed: VideoTable, num_workers: int) -> None:
    batches = read_epochs(make_loader(packed, num_workers))
    assert_same(batches, read_epochs(make_loader(loose)))
    assert sorted(row for batch in batches[:4] for row in batch.video.tolist()) == list(range(8))


def test_each_process_gets_its_share(loose: VideoTable, packed: VideoTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    seen: list[int] = []
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        batches = read_epochs(make_loader(packed), 1)
        assert_same(batches, read_epochs(make_loader(loose), 1))
        seen += [row for batch in batches for row in batch.video.tolist()]
    assert sorted(seen) == list(range(8))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_epoch_goes_on_in_its_middle(loose: VideoTable, packed: VideoTable, num_workers: int) -> None:
    loader, whole = make_loader(loose), []
    loader.sampler.set_epoch(3)  # type: ignore[attr-defined]
    for batch in loader:
        whole.append(batch)
        if len(whole) == 1:
            state = loader.state_dict()
    resumed = make_loader(packed, num_workers)
    resumed.load_state_dict(state)
    assert_same(list(resumed), whole[1:])


def test_test_views_are_those_of_the_files(loose: VideoTable, packed: VideoTable) -> None:
    views = UniformViews(CLIP, 32, ViewSpec(2, 3))
    for row in range(8):
        of_shards, of_files = (VideoDataset(table, views, backend="pyav")[row] for table in (packed, loose))
        assert torch.equal(of_shards.clip, of_files.clip)
        assert of_shards.label == of_files.label


def test_a_damaged_shard_fails_its_videos_alone(loose: VideoTable, tmp_path: Path) -> None:
    pack_videos(loose, str(tmp_path), PackSettings(max_videos=3, seed=None))
    table = load_annotations(tmp_path)
    (tmp_path / "shard-000001.tar").unlink()
    dataset = VideoDataset(table, UniformViews(CLIP, 32), on_error="skip")
    failures = [dataset[row].failure for row in range(8)]
    assert [failure is None for failure in failures] == [True] * 3 + [False] * 3 + [True] * 2
    assert failures[3] == (3, "shard shard-000001.tar cannot be read (No such file or directory)")
    with pytest.raises(VideoDecodeError, match=r"vfr\.mp4: shard shard-000001\.tar cannot be read"):
        VideoDataset(table, UniformViews(CLIP, 32))[3]


def test_runs_take_shards_where_they_take_annotations(loose: VideoTable, tmp_path: Path) -> None:
    pack_videos(loose, str(tmp_path / "train"), PackSettings(max_videos=3))
    pack_videos(loose, "memory://val", PackSettings(max_videos=3))
    try:
        data = VideoDataModule(
            train=f"{tmp_path}/train/shard-{{000000..000001}}.tar", val=str(tmp_path / "train"), test="memory://val",
            clip=CLIP, input=InputSpec(32), loading=LoadingSpec(2, num_workers=0),
        )  # fmt: skip
        data.setup("fit")
        assert 6 <= len(data.tables["train"]) < 8
        assert data.class_names == ("a", "b", "c")
        assert sum(len(batch.video) for batch in data.val_dataloader()) == 8
        data.setup("test")
        assert [batch.video.tolist()[0] for batch in data.test_dataloader()] == list(range(8))
    finally:
        fsspec.filesystem("memory").store.clear()
