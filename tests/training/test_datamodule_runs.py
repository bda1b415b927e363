"""The data module in runs of a trainer, and in its checkpoints."""

from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch

from mvit_video.data import ClipBatch
from mvit_video.data.settings import ClassSpec, InputSpec, LoadingSpec
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import ClipSpec, ConfigError, VideoDecodeError, ViewSpec
from tests.fixtures.data import Listed

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # Lightning, of loaders with 0 or 1 worker
]

LOADING = LoadingSpec(2, num_workers=0)
SMALL: dict = {"clip": ClipSpec(2, 2), "input": InputSpec(32), "loading": LOADING}


class Sum(L.LightningModule):
    """Stands in for a task; keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[ClipBatch] = []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: ClipBatch, batch_idx: int) -> torch.Tensor:
        self.batches.append(batch)
        return self.weight.sum() * batch.clip.mean()

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        self.batches.append(batch)

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **options: object) -> L.Trainer:
    settings: dict = {"max_epochs": 1, "log_every_n_steps": 1, **options}
    return L.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_lightning_verbs_read_every_video_once(listed: Listed, tmp_path: Path, verb: str) -> None:
    data, task = (
        VideoDataModule(val=listed(0, 1, 2), views=ViewSpec(2, 1), **SMALL | {"loading": LoadingSpec(2, 2, 0)}),
        Sum(),
    )
    getattr(trainer(tmp_path), verb)(task, datamodule=data, verbose=False)
    assert all(isinstance(batch, ClipBatch) for batch in task.batches)
    videos = [video for batch in task.batches for video in batch.video.tolist()]
    assert videos == ([0, 1, 2] if verb == "validate" else [0, 0, 1, 1, 2, 2])


def test_training_without_validation_videos(listed: Listed, tmp_path: Path) -> None:
    task = Sum()
    trainer(tmp_path).fit(task, datamodule=VideoDataModule(train=listed(0, 1, 2), **SMALL))
    assert len(task.batches) == 1


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_bad_video_in_a_run(listed: Listed, tmp_path: Path, on_error: str) -> None:
    source = listed(0, 1, 2)
    (tmp_path / "1.mp4").unlink()
    data = VideoDataModule(test=source, **SMALL | {"loading": replace(LOADING, on_error=on_error)})
    task = Sum()
    if on_error == "raise":
        with pytest.raises(VideoDecodeError, match=r"1\.mp4: no such file"):
            trainer(tmp_path).test(task, datamodule=data, verbose=False)
    else:
        trainer(tmp_path).test(task, datamodule=data, verbose=False)
        assert [failure for batch in task.batches for failure in batch.failures] == [(1, "no such file")]
        assert [len(batch.clip) for batch in task.batches] == [5, 0, 5]


def fit(folder: Path, data: VideoDataModule, ckpt_path: Path | None = None) -> Path:
    run = trainer(folder, max_epochs=1 if ckpt_path is None else 2, num_sanity_val_steps=0)
    run.fit(Sum(), datamodule=data, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    run.save_checkpoint(folder / "run.ckpt")
    return folder / "run.ckpt"


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path")  # resumed runs save nothing
def test_a_checkpoint_numbers_the_classes(listed: Listed, tmp_path: Path) -> None:
    trained = VideoDataModule(train=listed("run", "hop", "sit", name="a.txt"), **SMALL)
    checkpoint = fit(tmp_path, trained)
    assert torch.load(checkpoint)["VideoDataModule"] == {"class_names": ["hop", "run", "sit"]}

    data, task = VideoDataModule(test=listed("sit", "hop", name="b.txt"), **SMALL), Sum()
    trainer(tmp_path).test(task, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)
    assert [batch.label[0].item() for batch in task.batches] == [2, 0]
    assert data.class_names == ("hop", "run", "sit")

    foreign = VideoDataModule(train=listed("run", "hop", "nod", name="c.txt"), **SMALL)
    with pytest.raises(
        ConfigError, match=r"data\.train has the class 'nod', which is not in the checkpoint \S+;"
    ) as caught:
        fit(tmp_path, foreign, checkpoint)
    assert "\n" not in str(caught.value)
    names = ClassSpec(["hop", "sit", "run"])
    other_order = VideoDataModule(train=listed("run", "hop", name="d.txt"), classes=names, **SMALL)
    with pytest.raises(ConfigError, match=r"data\.classes\.names has 'sit' as class 1, the checkpoint \S+ has 'run'"):
        fit(tmp_path, other_order, checkpoint)
    fit(tmp_path, VideoDataModule(train=listed("run", "hop", "sit", name="e.txt"), **SMALL), checkpoint)


def test_class_numbers_leave_nothing_in_a_checkpoint(listed: Listed, tmp_path: Path) -> None:
    assert "VideoDataModule" not in torch.load(fit(tmp_path, VideoDataModule(train=listed(0, 1, 2), **SMALL)))


def test_classes_of_a_checkpoint_stay_for_later_tests(listed: Listed, tmp_path: Path) -> None:
    checkpoint = fit(tmp_path, VideoDataModule(train=listed("run", "hop", "sit", name="a.txt"), **SMALL))
    data, task = VideoDataModule(test=listed("sit", "hop", name="b.txt"), **SMALL), Sum()
    run = trainer(tmp_path)
    for path in (checkpoint, None):  # the second test does without the checkpoint
        run.test(task, datamodule=data, ckpt_path=path, verbose=False, weights_only=True if path else None)
    assert [batch.label[0].item() for batch in task.batches] == [2, 0] * 2
