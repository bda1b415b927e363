from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mvit_video.data import ClipBatch
from mvit_video.data.settings import InputSpec, LoadingSpec
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import ClipSpec, ConfigError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # Lightning, of loaders with 0 or 1 worker
    pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path"),  # resumed runs save nothing
]

NUM_VIDEOS = 7
MAX_EPOCHS = 2


class Recorder(L.LightningModule):
    """Notes the videos of each training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, int, list[int], float]] = []

    def training_step(self, batch: ClipBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch_idx, batch.video.tolist(), float(batch.clip.sum())))
        return (self.weight * batch.clip.mean()).sum()

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class AfterValidation(ModelCheckpoint):
    """Apart from the others by its type, which Lightning asks of callbacks with a state."""


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory, barcode_video: Path) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    for i in range(NUM_VIDEOS):
        (folder / f"{i}.mp4").symlink_to(barcode_video)
    (folder / "all.txt").write_text("".join(f"{i}.mp4 {i % 3}\n" for i in range(NUM_VIDEOS)))
    return folder / "all.txt"


def make_data(
    annotations: Path, num_workers: int = 0, batch_size: int = 2, val: bool = True, seed: int = 0
) -> VideoDataModule:
    return VideoDataModule(
        train=str(annotations),
        val=str(annotations) if val else None,
        clip=ClipSpec(2, 2),
        input=InputSpec(32),
        loading=LoadingSpec(batch_size, num_workers=num_workers),
        seed=seed,
    )


def fit(
    data: VideoDataModule, folder: Path, ckpt_path: Path | None = None, callbacks: list | None = None, **options: object
) -> Recorder:
    task = Recorder()
    settings: dict = {"max_epochs": MAX_EPOCHS, "use_distributed_sampler": False, **options}
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )
    trainer.fit(task, datamodule=data, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    return task


@pytest.mark.parametrize(
    ("options", "num_workers"),
    [({}, 0), ({"limit_train_batches": 2}, 0), ({"val_check_interval": 2}, 0), ({}, 1)],
    ids=["plain", "limited", "validating_within", "worker"],
)
def test_a_run_goes_on_from_any_checkpoint_as_if_never_stopped(
    annotations: Path, tmp_path: Path, options: dict, num_workers: int
) -> None:
    keep = {"dirpath": tmp_path, "save_top_k": -1, "enable_version_counter": False}
    at_steps = ModelCheckpoint(filename="step-{step}", every_n_train_steps=1, **keep)
    at_epochs = ModelCheckpoint(filename="epoch-{step}", every_n_epochs=1, save_on_train_epoch_end=True, **keep)
    at_validation = AfterValidation(filename="val-{step}", every_n_epochs=1, save_on_train_epoch_end=False, **keep)
    whole = fit(make_data(annotations, num_workers), tmp_path, None, [at_steps, at_epochs, at_validation], **options)
    for epoch in range(MAX_EPOCHS):
        videos = [video for batch in whole.seen for video in batch[2] if batch[0] == epoch]
        assert len(videos) == len(set(videos)) == 2 * options.get("limit_train_batches", NUM_VIDEOS // 2)

    checkpoints = sorted(tmp_path.glob("*.ckpt"))
    assert len(checkpoints) > len(whole.seen)
    for checkpoint in checkpoints[num_workers :: 1 + 3 * num_workers]:
        step = int(checkpoint.stem.rpartition("=")[2])
        resumed = fit(make_data(annotations, num_workers), tmp_path, checkpoint, **options)
        assert resumed.seen == whole.seen[step:], checkpoint.stem


def test_other_settings_in_mid_epoch_are_refused(annotations: Path, tmp_path: Path) -> None:
    at_steps = ModelCheckpoint(tmp_path, "step-{step}", every_n_train_steps=1, save_top_k=-1)
    fit(make_data(annotations, val=False), tmp_path, None, [at_steps], max_epochs=1)
    with pytest.raises(ConfigError, match=r"epoch 0 with videos_per_batch=2, .* now give 3"):
        fit(make_data(annotations, batch_size=3, val=False), tmp_path, tmp_path / "step-step=1.ckpt")
    with pytest.raises(ConfigError, match=r"epoch 0 with seed=0, .* now give 4"):
        fit(make_data(annotations, seed=4, val=False), tmp_path, tmp_path / "step-step=1.ckpt")
    resumed = fit(make_data(annotations, batch_size=3, val=False), tmp_path, tmp_path / "step-step=3.ckpt")
    assert [len(videos) for _, _, videos, _ in resumed.seen] == [3, 3]


def test_an_epoch_that_was_cut_short_may_be_followed_by_other_settings(annotations: Path, tmp_path: Path) -> None:
    at_epochs = ModelCheckpoint(tmp_path, "epoch-{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    fit(make_data(annotations, val=False), tmp_path, None, [at_epochs], max_epochs=1, limit_train_batches=2)
    other = make_data(annotations, batch_size=3, seed=4, val=False)
    resumed = fit(other, tmp_path, tmp_path / "epoch-epoch=0.ckpt", limit_train_batches=1)
    assert [(epoch, len(videos)) for epoch, _, videos, _ in resumed.seen] == [(1, 3)]


def test_a_finished_epoch_may_be_followed_by_smaller_batches(annotations: Path, tmp_path: Path) -> None:
    at_epochs = ModelCheckpoint(tmp_path, "epoch-{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    fit(make_data(annotations, batch_size=3, val=False), tmp_path, None, [at_epochs], max_epochs=1)
    resumed = fit(make_data(annotations, val=False), tmp_path, tmp_path / "epoch-epoch=0.ckpt")
    assert [(epoch, len(videos)) for epoch, _, videos, _ in resumed.seen] == [(1, 2)] * 3
