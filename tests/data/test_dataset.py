import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from mvit_video.data import VideoDataset, VideoTable
from mvit_video.data.dataset import collate
from mvit_video.data.transforms import Augment, Normalize
from mvit_video.data.views import RandomView, UniformViews
from mvit_video.types import ClipSpec, VideoDecodeError, ViewSpec

CLIP = ClipSpec(num_frames=4, sampling_rate=3)
BYTES = Normalize(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))


@pytest.fixture
def table(tmp_path: Path, barcode_video: Path) -> VideoTable:
    """Five videos, the fourth of which is no video."""
    for i in range(5):
        if i == 3:
            (tmp_path / "3.mp4").write_text("no video")
        else:
            (tmp_path / f"{i}.mp4").symlink_to(barcode_video)
    paths = pa.array([f"{i}.mp4" for i in range(5)])
    return VideoTable(paths, np.array([0, 1, 2, 0, -1]), None, tmp_path)


def test_training_item_is_one_random_clip(table: VideoTable) -> None:
    item = VideoDataset(table, RandomView(CLIP, 32))[0, 1]
    assert item.clip.shape == (1, 3, 4, 32, 32)
    assert item.clip.dtype == torch.float32
    assert (item.label, item.video, item.failure) == (1, 1, None)


def test_repeats_are_copies_of_one_clip(table: VideoTable) -> None:
    unchanged = Augment(scale=(1.0, 1.0), aspect=(1.5, 1.5), flip=0.0, repeats=3)
    clips = VideoDataset(table, RandomView(CLIP, 32, unchanged))[0, 1].clip
    assert clips.shape == (3, 3, 4, 32, 32)
    assert (clips == clips[0]).all()
    clips = VideoDataset(table, RandomView(CLIP, 32, Augment(repeats=2)))[0, 1].clip
    assert not torch.equal(clips[0], clips[1])


def test_an_item_is_given_by_seed_epoch_and_row(table: VideoTable) -> None:
    def clip(seed: int, epoch: int, row: int) -> torch.Tensor:
        return VideoDataset(table, RandomView(CLIP, 32), seed=seed)[epoch, row].clip

    first = clip(0, 0, 0)
    assert torch.equal(first, clip(0, 0, 0))
    assert torch.equal(first, VideoDataset(table, RandomView(CLIP, 32))[0].clip)
    for other in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        assert not torch.equal(first, clip(*other))


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_views_show_the_frames_of_the_protocol(table: VideoTable, backend: str) -> None:
    views = UniformViews(CLIP, 64, ViewSpec(num_clips=3, num_crops=3), BYTES)
    clips = VideoDataset(table, views, backend=backend)[0, 0].clip  # type: ignore[arg-type]
    assert clips.shape == (9, 3, 4, 64, 64)
    # the left crop of 64 pixels shows the bars of the lower five bits, 12 pixels each
    bars = clips[::3, :, :, 16, 6:60:12].mean(dim=1) > 128
    lower_bits = (bars * 2 ** torch.arange(5)).sum(dim=-1)
    expected = torch.tensor([[0, 3, 7, 11], [18, 21, 25, 29], [36, 39, 43, 47]])
    assert torch.equal(lower_bits, expected % 32)


def test_frame_orders_show_the_same_frames(table: VideoTable) -> None:
    spec = ViewSpec(num_clips=2)
    clips = {
        order: VideoDataset(table, UniformViews(CLIP, 32, spec, BYTES, order))[0, 0].clip
        for order in ("forward", "reversed", "shuffled")
    }
    assert torch.equal(clips["reversed"], clips["forward"].flip(2))
    assert not torch.equal(clips["shuffled"], clips["forward"])
    torch.testing.assert_close(clips["shuffled"].sum(dim=2), clips["forward"].sum(dim=2))


def test_a_bad_video_raises_or_is_listed(table: VideoTable) -> None:
    with pytest.raises(VideoDecodeError, match=r"3\.mp4: cannot be decoded"):
        VideoDataset(table, RandomView(CLIP, 32))[0, 3]
    item = VideoDataset(table, RandomView(CLIP, 32), on_error="skip")[0, 3]
    assert item.clip.shape == (0, 3, 4, 32, 32)
    assert item.failure is not None
    assert item.failure.video == 3
    assert "cannot be decoded" in item.failure.reason


def test_batches_keep_the_views_of_a_video_together(table: VideoTable) -> None:
    dataset = VideoDataset(table, UniformViews(CLIP, 32, ViewSpec(2, 3)), on_error="skip")
    batch = collate([dataset[0, row] for row in (4, 3, 1)])
    assert batch.clip.shape == (12, 3, 4, 32, 32)
    assert batch.video.tolist() == [4] * 6 + [1] * 6
    assert batch.view.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert batch.label.tolist() == [-1] * 6 + [1] * 6
    assert [(failure.video, failure[0]) for failure in batch.failures] == [(3, 3)]
    nothing = collate([dataset[0, 3]])
    assert nothing.clip.shape == (0, 3, 4, 32, 32)
    assert nothing.label.dtype == nothing.video.dtype == nothing.view.dtype == torch.int64


def test_a_dataset_travels_to_workers(table: VideoTable) -> None:
    dataset = VideoDataset(table, RandomView(CLIP, 32))
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[2, 0].clip, dataset[2, 0].clip)
    with pytest.raises(IndexError, match="row 5"):
        dataset[0, 5]
