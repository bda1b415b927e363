"""Video scores against naive loops, scikit-learn, and other orders, duplicates and processes."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, top_k_accuracy_score
from torch import Tensor, multiprocessing

from mvit_video.evaluation import VideoPredictions, VideoScores

NUM_CLASSES = 6


def make_views(seed: int, num_videos: int, num_views: int, ties: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views in random order; with ties, probabilities are multiples of 1/8."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(NUM_CLASSES), num_videos * num_views)
    if ties:
        probabilities = np.round(probabilities * 8) / 8
    video = np.repeat(np.arange(num_videos), num_views)
    view = np.tile(np.arange(num_views), num_videos)
    label = rng.integers(NUM_CLASSES, size=num_videos)[video]
    order = rng.permutation(len(video))
    columns = (probabilities.astype(np.float32), label, video, view)
    return tuple(torch.from_numpy(column[order]) for column in columns)


views = st.builds(make_views, st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 4), st.booleans())


def score(*batches: tuple[Tensor, Tensor, Tensor, Tensor]) -> VideoScores:
    metric = VideoScores(NUM_CLASSES)
    for batch in batches:
        metric.update(*batch)
    return metric


@given(views)
def test_equals_a_naive_loop(columns: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    result = score(columns).compute()
    top1, top5, of_class = [], [], {}
    for row in sorted(set(columns[2].tolist())):
        mine = columns[2] == row
        mean = columns[0][mine].double().mean(0).float().tolist()
        label = int(columns[1][mine][0])
        ranking = sorted(range(NUM_CLASSES), key=lambda c: (-mean[c], c))
        top1.append(label == ranking[0])
        top5.append(label in ranking[:5])
        of_class.setdefault(label, []).append(label == ranking[0])
    assert float(result["top1"]) == pytest.approx(100 * np.mean(top1))
    assert float(result["top5"]) == pytest.approx(100 * np.mean(top5))
    assert float(result["mean_class"]) == pytest.approx(100 * np.mean([np.mean(hits) for hits in of_class.values()]))


@given(views)
def test_equals_scikit_learn(columns: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    metric = score(columns)
    videos, result = metric.videos(), metric.compute()
    label = videos.label.numpy()
    assert float(result["top1"]) == pytest.approx(100 * accuracy_score(label, videos.prediction.numpy()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y_pred contains classes not in y_true")
        warnings.filterwarnings("ignore", "A single label was found")
        mean_class = balanced_accuracy_score(label, videos.prediction.numpy())
    assert float(result["mean_class"]) == pytest.approx(100 * mean_class)
    # scikit-learn ranks equal classes from the last to the first
    mirrored = videos.probabilities.numpy()[:, ::-1]
    top5 = top_k_accuracy_score(NUM_CLASSES - 1 - label, mirrored, k=5, labels=np.arange(NUM_CLASSES))
    assert float(result["top5"]) == pytest.approx(100 * top5)


@given(views, st.integers(0, 10**6))
def test_neither_order_nor_duplicates_nor_batches_matter(
    columns: tuple[Tensor, Tensor, Tensor, Tensor], seed: int
) -> None:
    order = torch.from_numpy(np.random.default_rng(seed).integers(len(columns[0]), size=len(columns[0])))
    shuffled = tuple(column[order] for column in columns)
    once, again = score(columns).videos(), score(shuffled, columns, shuffled).videos()
    for name in ("video", "probabilities", "label", "num_views"):
        assert torch.equal(getattr(once, name), getattr(again, name))


def test_counts_views_of_each_video() -> None:
    probabilities = torch.full((3, NUM_CLASSES), 1 / NUM_CLASSES)
    videos = score((probabilities, torch.tensor([1, 1, 2]), torch.tensor([4, 4, 9]), torch.tensor([0, 3, 3]))).videos()
    assert videos.video.tolist() == [4, 9]
    assert videos.num_views.tolist() == [2, 1]


def test_videos_without_label_are_left_out_of_the_metrics() -> None:
    probabilities = torch.eye(3)
    videos = VideoPredictions(torch.arange(3), probabilities, torch.tensor([0, -1, 1]), torch.ones(3, dtype=torch.long))
    assert float(videos.top(1)) == 50
    assert float(videos.mean_class) == 50


def _score_share(rank: int, folder: str, num_videos: int) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    columns = make_views(3, num_videos, 3, ties=False)
    mine = columns[2] % 2 == rank
    metric = score(tuple(column[mine] for column in columns)) if mine.any() else VideoScores(NUM_CLASSES)
    if rank == 1 and num_videos > 1:  # padding: a view that the other process has seen
        metric.update(*(column[~mine][:2] for column in columns))
    torch.save(vars(metric.gather()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("num_videos", [9, 1], ids=["padded", "one process without videos"])
def test_two_processes_equal_one(tmp_path: Path, num_videos: int) -> None:
    multiprocessing.start_processes(_score_share, (str(tmp_path), num_videos), nprocs=2, start_method="fork")
    expected = score(make_views(3, num_videos, 3, ties=False)).videos()
    for rank in range(2):
        for name, value in torch.load(tmp_path / f"{rank}.pt").items():
            assert torch.equal(value, getattr(expected, name)), (rank, name)
