"""Views of videos, complete from any number of processes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, multiprocessing

from mvit_video.evaluation.scores import VideoViews, ViewScores

NUM_CLASSES, NUM_VIEWS = 6, 3
Columns = tuple[Tensor, Tensor, Tensor]


def make_views(seed: int, num_videos: int) -> Columns:
    """Probabilities, video and view of each view, in random order; videos have the rows 0, 2, 4, ..."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(NUM_CLASSES), num_videos * NUM_VIEWS)
    video, view = np.divmod(rng.permutation(num_videos * NUM_VIEWS), NUM_VIEWS)
    return torch.from_numpy(probabilities.astype(np.float32)), torch.from_numpy(2 * video), torch.from_numpy(view)


views = st.builds(make_views, st.integers(0, 10**6), st.integers(1, 12))


def gather(*batches: Columns, expected: tuple[int, ...] = ()) -> VideoViews:
    scores = ViewScores(NUM_VIEWS, NUM_CLASSES)
    for batch in batches:
        scores.update(*batch)
    found = scores.gather(np.array(expected, np.int64), lambda row: f"{row}.mp4")
    assert found is not None
    return found


def assert_same(found: VideoViews, other: VideoViews) -> None:
    assert torch.equal(found.video, other.video)
    assert torch.equal(found.scores, other.scores)


@given(views, st.integers(0, 10**6))
def test_neither_order_nor_batches_matter(columns: Columns, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = torch.from_numpy(rng.permutation(len(columns[0])))
    cuts = np.sort(rng.integers(len(order) + 1, size=3)).tolist()
    batches = [tuple(x[order][i:j] for x in columns) for i, j in zip([0, *cuts], [*cuts, None], strict=True)]
    assert_same(gather(*batches), gather(columns))


@given(views)
def test_every_view_stands_in_its_place(columns: Columns) -> None:
    found = gather(columns)
    for scores, video, view in zip(*columns, strict=True):
        row = found.video.tolist().index(int(video))
        assert torch.equal(found.scores[row, int(view)], scores)
    assert found.scores.shape == (len(columns[0]) // NUM_VIEWS, NUM_VIEWS, NUM_CLASSES)


def test_times_stand_with_their_views() -> None:
    scores = ViewScores(2, 1)
    seconds = torch.tensor([[2.0, 3.0], [0.0, 1.0]])
    scores.update(torch.zeros(2, 1), torch.tensor([5, 5]), torch.tensor([1, 0]), seconds)
    found = scores.gather(np.empty(0, np.int64), str)
    assert found is not None
    assert found.seconds is not None
    assert found.seconds.tolist() == [[[0, 1], [2, 3]]]


def test_a_missing_view_is_named() -> None:
    columns = tuple(column[1:] for column in make_views(0, 4))
    lost = int(make_views(0, 4)[1][0])
    with pytest.raises(RuntimeError, match=rf"1 of 4 videos miss views, first {lost}\.mp4: 2 of 3"):
        gather(columns)


def test_a_missing_video_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"2 of 4 videos miss views, first 1\.mp4: 0 of 3"):
        gather(make_views(0, 2), expected=(0, 1, 3))


def test_a_doubled_view_is_named() -> None:
    columns = make_views(0, 4)
    again = tuple(column[:1] for column in columns)
    message = f"1 of 4 videos have a view that one process scored twice, first {again[1][0]}.mp4: view {again[2][0]} of"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        gather(columns, again)


def test_a_view_beyond_the_last_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"7\.mp4: view 3 of 3"):
        gather((torch.zeros(1, NUM_CLASSES), torch.tensor([7]), torch.tensor([3])))


def _gather_share(rank: int, folder: str, columns: Columns, layout: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    row = columns[1] // 2
    scores = ViewScores(NUM_VIEWS, NUM_CLASSES)
    mine = {
        "videos": row % 2 == rank,
        "views": columns[2] % 2 == rank,
        "padded": (row % 2 == rank) | (row == 0),
        "one": torch.full_like(row, rank == 0, dtype=torch.bool),
        "incomplete": (row % 2 == rank) & (row != 3),
    }[layout]
    for part in torch.arange(len(row))[mine].split(4):
        scores.update(*(column[part] for column in columns))
    try:
        found = scores.gather(np.unique(columns[1].numpy()), lambda row: f"{row}.mp4")
    except RuntimeError as error:
        found = str(error)
    torch.save(found if found is None or isinstance(found, str) else vars(found), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def gather_by_two(folder: Path, columns: Columns, layout: str) -> list[object]:
    multiprocessing.start_processes(_gather_share, (str(folder), columns, layout), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize(("layout", "repeated"), [("videos", 0), ("views", 0), ("padded", NUM_VIEWS), ("one", 0)])
def test_two_processes_equal_one(tmp_path: Path, layout: str, repeated: int) -> None:
    columns = make_views(3, 9)
    first, second = gather_by_two(tmp_path, columns, layout)
    assert isinstance(first, dict)
    assert_same(VideoViews(**first), gather(columns))
    assert first["num_repeated"] == repeated
    assert second is None


def test_every_process_stops_at_a_missing_video(tmp_path: Path) -> None:
    texts = gather_by_two(tmp_path, make_views(3, 9), "incomplete")
    assert texts == ["1 of 9 videos miss views, first 6.mp4: 0 of 3"] * 2
