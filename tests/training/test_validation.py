"""Validation by any number of views: videos and not clips are counted, each once, as a test would count them."""

import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from sklearn.metrics import average_precision_score, top_k_accuracy_score
from torch import Tensor, multiprocessing, nn

from mvit_video.data import ClipBatch
from mvit_video.data.settings import InputSpec, LoadingSpec
from mvit_video.training import Task
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.training.metrics import PercentMeanPrecision, PercentVideosWithin, VideoMean
from mvit_video.types import ClipSpec, ViewSpec
from tests.fixtures.training import MakeTrainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]
NUM_CLASSES = 7


def made_videos(seed: int, num_videos: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, probabilities and labels."""
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.rand(num_videos, NUM_CLASSES, generator=generator).softmax(dim=1)
    return torch.arange(num_videos), probabilities, torch.randint(NUM_CLASSES, (num_videos,), generator=generator)


@given(st.integers(0, 10**6), st.integers(1, 30), st.lists(st.integers(0, 29), max_size=10))
def test_repeated_videos_count_once(seed: int, num_videos: int, repeated: list[int]) -> None:
    video, probabilities, label = made_videos(seed, num_videos)
    rows = torch.tensor([*range(num_videos), *(row % num_videos for row in repeated)])
    for k in (1, 5):
        metric = PercentVideosWithin(k)
        for part in rows.split(4):
            metric.update(video[part], probabilities[part], label[part])
        expected = 100 * top_k_accuracy_score(label, probabilities, k=k, labels=range(NUM_CLASSES))
        assert float(metric.compute()) == pytest.approx(expected)
    mean = VideoMean()
    mean.update(rows, rows.float())
    assert float(mean.compute()) == pytest.approx((num_videos - 1) / 2)


def test_mean_precision_is_sklearns() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(50, 6, generator=generator)
    label = (torch.rand(50, 6, generator=generator) < 0.3).float()
    label[:, 4] = 0  # a class that nothing shows is left out
    metric = PercentMeanPrecision()
    for rows in (torch.arange(20), torch.arange(15, 50)):
        metric.update(rows, probabilities[rows], label[rows])
    shown = [0, 1, 2, 3, 5]
    expected = 100 * average_precision_score(label[:, shown], probabilities[:, shown])
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric VideoMean was called before the ``update``")
def test_nothing_has_no_mean() -> None:
    assert VideoMean().compute().isnan()


def _share_of(rank: int, folder: str, rows: list[list[int]]) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(rows))
    video, probabilities, label = made_videos(5, 9)
    metric, mean = PercentVideosWithin(1), VideoMean()
    if rows[rank]:
        mine = torch.tensor(rows[rank])
        metric.update(video[mine], probabilities[mine], label[mine])
        mean.update(video[mine], probabilities[mine, 0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*compute.*before the ``update``")
        torch.save([metric.compute(), mean.compute()], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "rows",
    [
        [[0, 2, 4, 6, 8], [1, 3, 5, 7]],
        [[0, 2, 4, 6, 8], [1, 3, 5, 7, 0]],  # a sampler padded
        [list(range(9)), []],
    ],
    ids=["shared", "padded", "one has none"],
)
def test_two_processes_equal_one(tmp_path: Path, rows: list[list[int]]) -> None:
    multiprocessing.start_processes(_share_of, (str(tmp_path), rows), nprocs=2, start_method="fork")
    video, probabilities, label = made_videos(5, 9)
    metric, mean = PercentVideosWithin(1), VideoMean()
    metric.update(video, probabilities, label)
    mean.update(video, probabilities[:, 0])
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == [metric.compute(), mean.compute()]


class Table(nn.Module):
    """Logits by the first pixel of a clip."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.num_classes, self.num_frames, self.crop_size = logits, logits.shape[1], 1, 1

    def forward(self, clip: Tensor) -> Tensor:
        return self.logits[clip[:, 0, 0, 0, 0].long()]


def step(task: Task, views: int, labels: Tensor) -> None:
    """Validates videos whose clips bear the numbers 0, 1, ..."""
    num_clips = views * len(labels)
    clip = torch.arange(num_clips).float().view(-1, 1, 1, 1, 1).expand(-1, 3, 1, 1, 1)
    video = torch.arange(len(labels)).repeat_interleave(views)
    batch = ClipBatch(
        clip, labels.repeat_interleave(views, dim=0), video, torch.arange(views).repeat(len(labels)), [], []
    )
    task.log = lambda *_, **__: None  # type: ignore[method-assign]
    task.validation_step(batch, 0)


def test_views_of_a_video_are_joined_and_unknown_labels_left_out() -> None:
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(2))
    task = Task(Table(logits), partial(torch.optim.SGD, lr=0.1))
    label = torch.tensor([2, -1, 0, 1])
    step(task, 3, label)
    known = [0, 2, 3]
    mean = logits.double().softmax(dim=1).view(4, 3, 3).mean(dim=1)[known]
    right = mean.argmax(dim=1) == label[known]
    assert float(task.val_metrics["val/top1"].compute()) == pytest.approx(100 * right.double().mean().item())
    losses = nn.functional.cross_entropy(logits, label.clamp(min=0).repeat_interleave(3), reduction="none")
    assert float(task.val_loss.compute()) == pytest.approx(losses.view(4, 3)[known].mean().item())


def test_several_labels_take_the_largest_score_of_the_views() -> None:
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(2))
    task = Task(Table(logits), partial(torch.optim.SGD, lr=0.1), multi_label=True)
    label = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0], [0, 1]]).float()  # the last class is not annotated
    step(task, 2, label)
    top = logits.sigmoid().view(5, 2, 3).amax(dim=1)[:, :2]
    assert float(task.val_metrics["val/mAP"].compute()) == pytest.approx(100 * average_precision_score(label, top))


def test_validation_over_the_views_of_a_test_gives_its_numbers(digits: Path, make_trainer: MakeTrainer) -> None:
    from mvit_video.evaluation import MultiViewEvaluation

    source, views = str(digits / "val.csv"), ViewSpec(3, 3)

    class Colours(nn.Module):
        num_classes, num_frames, crop_size = 6, 2, 32  # two that no video has

        def forward(self, clip: Tensor) -> Tensor:
            return 40 * clip.flatten(1)[:, :6]

    data = VideoDataModule(
        val=source,
        clip=ClipSpec(2, 4),
        input=InputSpec(32),
        views=views,
        val_views=views,
        loading=LoadingSpec(2, num_workers=0),
    )
    task = Task(Colours(), partial(torch.optim.SGD, lr=0.1))
    trainer: Trainer = make_trainer(MultiViewEvaluation())
    trainer.validate(task, datamodule=data, verbose=False)
    validated = dict(trainer.callback_metrics)
    assert [tuple(batch.clip.shape[:1]) for batch in data.val_dataloader()] == [(9,)] * 8
    trainer.test(task, datamodule=data, verbose=False)
    for name in ("top1", "top5"):
        assert validated[f"val/{name}"] == trainer.callback_metrics[f"test/{name}"]
    assert 0 < validated["val/top1"] < 100

    # without a callback that evaluates, the task does
    (alone,) = make_trainer().test(task, datamodule=data, verbose=False)
    assert alone == {f"test/{name}": validated[f"val/{name}"] for name in ("top1", "top5")}
