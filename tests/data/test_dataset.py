import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from mvit_video.data import ClipBatch, VideoDataset, VideoReader, VideoTable
from mvit_video.data.clips.transforms import Augment, Normalize
from mvit_video.data.clips.views import RandomView, UniformViews
from mvit_video.data.dataset import Decode, collate
from mvit_video.data.readers import Backend, IndexCache, open_video
from mvit_video.types import ClipSpec, ConfigError, FrameOrder, VideoDecodeError, ViewSpec
from tests.fixtures.data import OddVideos

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


class Failing:
    """A view rule that fails as a library does."""

    num_frames, crop_size, short_side, is_training = 4, 32, 32, False

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, reader: VideoReader, rng: np.random.Generator) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("bits must\nbe 1 to 8"), MemoryError("too much"), KeyError("x")])
def test_any_error_of_an_item_names_its_file_and_follows_on_error(table: VideoTable, error: Exception) -> None:
    reason = rf"{type(error).__name__}: {' '.join(str(error).split())} \(test_dataset.py line \d+\)"
    with pytest.raises(VideoDecodeError, match=rf"^\S+/1\.mp4: {reason}$"):
        VideoDataset(table, Failing(error))[1]
    item = VideoDataset(table, Failing(error), on_error="skip")[1]
    assert item.failure is not None
    assert re.fullmatch(reason, item.failure.reason)
    assert item.clip.shape == (0, 3, 4, 32, 32)


def test_a_wrong_setting_is_no_fault_of_an_item(table: VideoTable) -> None:
    with pytest.raises(ConfigError, match="wrong"):
        VideoDataset(table, Failing(ConfigError("wrong")), on_error="skip")[1]


def test_a_plain_loader_makes_batches(table: VideoTable) -> None:
    dataset = VideoDataset(table, UniformViews(CLIP, 32, ViewSpec(2, 1)), on_error="skip")
    for loader in (DataLoader(dataset, batch_size=5), DataLoader(dataset, batch_size=5, collate_fn=dataset.collate)):
        (batch,) = loader
        assert isinstance(batch, ClipBatch)
        assert batch.clip.shape == (8, 3, 4, 32, 32)
        assert batch.video.tolist() == [0, 0, 1, 1, 2, 2, 4, 4]
        assert [failure.video for failure in batch.failures] == [3]


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
    orders: list[FrameOrder] = ["forward", "reversed", "shuffled"]
    clips = {
        order: VideoDataset(table, UniformViews(CLIP, 32, ViewSpec(2, frame_order=order), BYTES))[0, 0].clip
        for order in orders
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
    assert batch.seconds is not None
    of_one = [[0, 11 / 30]] * 3 + [[36 / 30, 47 / 30]] * 3
    assert batch.seconds.numpy() == pytest.approx(np.array(of_one * 2), abs=1e-3)
    assert [(failure.video, failure[0]) for failure in batch.failures] == [(3, 3)]
    nothing = collate([dataset[0, 3]])
    assert nothing.clip.shape == (0, 3, 4, 32, 32)
    assert nothing.label.dtype == nothing.video.dtype == nothing.view.dtype == torch.int64


def test_items_tell_how_they_were_read(odd_videos: OddVideos, tmp_path: Path) -> None:
    """A codec that conceals damage delivers frames; PyAV tells, decord does not and is not asked."""
    pytest.importorskip("decord")
    damaged = bytearray(odd_videos("closed_gop").read_bytes())
    with av.open(str(odd_videos("closed_gop"))) as container:
        last_key = [packet.pos for packet in container.demux(video=0) if packet.is_keyframe][-1]
    damaged[last_key + 40 : last_key + 120] = np.random.default_rng(0).bytes(80)
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    names = {
        "damaged": tmp_path / "damaged.mp4",
        "open_gop": odd_videos("open_gop"),
        "closed": odd_videos("closed_gop"),
    }
    table = VideoTable(pa.array([str(path) for path in names.values()]), np.zeros(3, np.int64), None, Path())
    views = UniformViews(CLIP, 32, ViewSpec(10))
    by_pyav = [VideoDataset(table, views, backend="pyav")[0, row].decode for row in range(3)]
    assert by_pyav == [Decode(row, "pyav", "as asked", row == 0) for row in range(3)]
    batch = collate([VideoDataset(table, views)[0, row] for row in (1, 2)])
    assert [(decode.video, decode.backend, decode.damaged) for decode in batch.decodes] == [
        (1, "pyav", False),
        (2, "decord", None),
    ]
    assert "open GOP" in batch.decodes[0].reason


def test_several_labels_make_a_row_of_ones(barcode_video: Path) -> None:
    classes = pa.array([[0, 3], [], [2]])
    paths = pa.array([barcode_video.name] * 3)
    table = VideoTable(paths, np.full(3, -1), None, barcode_video.parent, multi_labels=classes)
    dataset = VideoDataset(table, UniformViews(CLIP, 32, ViewSpec(2, 1)))
    label = collate([dataset[0, row] for row in range(3)]).label
    assert label.dtype == torch.float32
    assert label.tolist() == [[1, 0, 0, 1]] * 2 + [[0, 0, 0, 0]] * 2 + [[0, 0, 1, 0]] * 2
    wider = VideoDataset(table, UniformViews(CLIP, 32), num_classes=6)
    assert collate([wider[0, 0]]).label.tolist() == [[1, 0, 0, 1, 0, 0]]


def test_frames_that_are_only_cropped_are_decoded_to_the_size_of_the_crops(
    table: VideoTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    heights: list[int] = []

    def views(crop_size: int) -> UniformViews:
        class Noting(UniformViews):
            def __call__(self, reader: VideoReader, rng: np.random.Generator) -> torch.Tensor:
                heights.append(reader.height)
                return super().__call__(reader, rng)

        return Noting(CLIP, crop_size, ViewSpec(1, 3))

    for crop_size, short_side in [(32, None), (32, 40), (48, 40), (32, 500)]:
        item = VideoDataset(table, views(crop_size), short_side=short_side)[0, 0]
        assert item.clip.shape[-2:] == (crop_size, crop_size)
    assert heights == [64, 32, 48, 32]


@pytest.mark.parametrize(("decode_short_side", "expected"), [(None, 64), (40, 40), (24, 32)])
def test_frames_for_training_are_decoded_larger_than_their_crops(
    table: VideoTable, monkeypatch: pytest.MonkeyPatch, decode_short_side: int | None, expected: int
) -> None:
    heights: list[int] = []

    def noting(*args: Any, **kwargs: Any) -> VideoReader:
        reader = open_video(*args, **kwargs)
        heights.append(reader.height)
        return reader

    monkeypatch.setattr("mvit_video.data.dataset.open_video", noting)
    VideoDataset(table, RandomView(CLIP, 32), short_side=decode_short_side)[0, 0]
    assert heights == [expected]


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_three_crops_are_as_sharp_as_after_one_resize(table: VideoTable, backend: Backend) -> None:
    """SlowFast resizes the frames of a file once; to decode them to 52 and then to 48 pixels blurs them."""
    views = UniformViews(CLIP, 48, ViewSpec(1, 3), Normalize((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    once = VideoDataset(table, views)[0, 0].clip
    with open_video(table.source(0), backend, short_side=52) as reader:
        twice = views(reader, np.random.default_rng(0)).clip
    clip = VideoDataset(table, views, backend=backend, short_side=52)[0, 0].clip

    def distance(one: torch.Tensor) -> float:
        return float((one - once).square().mean().sqrt())

    assert distance(clip) < 0.6 * distance(twice)


def test_a_cache_spares_the_pass_over_the_packets(
    table: VideoTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = IndexCache(tmp_path / "index")
    first = VideoDataset(table, RandomView(CLIP, 32), index_cache=cache)[0, 1]
    cache.flush()
    monkeypatch.setattr("mvit_video.data.readers.reader.scan_packets", lambda *_: pytest.fail("scanned again"))
    again = VideoDataset(table, RandomView(CLIP, 32), index_cache=pickle.loads(pickle.dumps(cache)))[0, 1]
    assert torch.equal(first.clip, again.clip)


def test_a_failure_in_an_archive_names_the_video(table: VideoTable) -> None:
    class Broken:
        def read(self, row: int) -> bytes:
            return b"no video"

    dataset = VideoDataset(replace(table, archive=Broken()), RandomView(CLIP, 32))
    with pytest.raises(VideoDecodeError, match=r"/1\.mp4: "):
        dataset[0, 1]


def test_a_dataset_travels_to_workers(table: VideoTable) -> None:
    dataset = VideoDataset(table, RandomView(CLIP, 32))
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[2, 0].clip, dataset[2, 0].clip)
    with pytest.raises(IndexError, match="row 5"):
        dataset[0, 5]
