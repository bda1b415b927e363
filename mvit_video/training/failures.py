"""Which videos training could not read."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mvit_video.data.dataset import ClipBatch


class FailureList(Callback):
    """Lists in `failures.csv` (`path,reason`), after every epoch, the videos that were skipped because of an error.

    Args:
        folder: where the file goes, once there is something to list.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "failures.csv"
        self._reasons: dict[str, str] = {}
        self._num_told = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int
    ) -> None:
        """Keeps what the batch lacks."""
        self._keep(trainer, "train", batch)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps what the batch lacks."""
        self._keep(trainer, "val", batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the list of all processes, and tells its length when it has grown."""
        shares: list[Any] = [self._reasons]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            shares = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(shares, self._reasons)
        reasons = {path: reason for share in shares for path, reason in share.items()}
        if len(reasons) == self._num_told or not trainer.is_global_zero:
            return
        self._num_told = len(reasons)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_name(f".{self.path.name}")
        with unfinished.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "reason"), *sorted(reasons.items())])
        os.replace(unfinished, self.path)
        print(f"videos failed so far: {len(reasons)}, listed in {self.path}", flush=True)

    def _keep(self, trainer: Trainer, split: str, batch: ClipBatch) -> None:
        if batch.failures:
            data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
            table = data.tables[split]
            self._reasons.update({table.path(failure.video): failure.reason for failure in batch.failures})
