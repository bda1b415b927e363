"""How the videos of a run were read, and which could not be."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mvit_video.data.annotations import VideoTable
from mvit_video.data.dataset import ClipBatch
from mvit_video.processes import all_gather_objects
from mvit_video.training.output import print_line, write_csv
from mvit_video.types import TrainingError

_AS_ASKED = "as asked"


class FailureList(Callback):
    """Lists in `failures.csv` (`path,reason`), after every epoch, the videos that have failed.

    These are the ones that were skipped because of an error, and in validation those whose scores are not finite.

    Args:
        folder: where the file goes, once there is something to list.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "failures.csv"
        self._reasons: dict[tuple[str, tuple[float, float] | None], str] = {}  # by path and segment
        self._num_told = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int
    ) -> None:
        """Keeps what the batch lacks."""
        self._keep(_table(trainer, "train"), batch)

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
        table = _table(trainer, "val")
        self._keep(table, batch)
        rows = outputs["non_finite"].tolist() if isinstance(outputs, dict) else []  # another task may return nothing
        for row in rows:
            self._reasons[table.path(row), table.span(row)] = "the model's output is not finite"

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the list of a validation without training."""
        if trainer.state.fn == "validate":
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the list of all processes, and tells its length when it has grown."""
        reasons = {key: reason for share in all_gather_objects(self._reasons) for key, reason in share.items()}
        if len(reasons) == self._num_told or not trainer.is_global_zero:
            return
        self._num_told = len(reasons)
        listed = sorted((path, reason) for (path, _), reason in reasons.items())
        write_csv(self.path, [("path", "reason"), *listed])
        print_line(f"videos failed so far: {len(reasons)}, listed in {self.path}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Likewise, where no process waits in vain for the others."""
        if trainer.world_size == 1 or isinstance(exception, TrainingError):
            self.on_train_epoch_end(trainer, pl_module)

    def _keep(self, table: VideoTable, batch: ClipBatch) -> None:
        for failure in batch.failures:
            self._reasons[table.path(failure.video), table.span(failure.video)] = failure.reason


class DecodingRecord(Callback):
    """Counts which library decoded the videos, and why that one.

    After every epoch `decoding.csv` (`split,backend,reason,videos`) holds the counts of each split's last epoch, and
    `damaged.csv` (`path`) the videos that were delivered although parts of them could not be decoded. What was not
    decoded as asked is printed, once.

    Args:
        folder: where the files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        self._damaged: set[str] = set()
        self._told: set[object] = set()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts anew."""
        self._counts["train"].clear()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int
    ) -> None:
        """Counts the batch."""
        self._count(trainer, "train", batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes and tells the counts."""
        self._report(trainer)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts anew."""
        self._counts["val"].clear()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts the batch."""
        self._count(trainer, "val", batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes and tells the counts of a validation without training."""
        if trainer.state.fn == "validate":
            self._report(trainer)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts anew."""
        self._counts["test"].clear()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts the batch."""
        self._count(trainer, "test", batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes and tells the counts."""
        self._report(trainer)

    def _count(self, trainer: Trainer, split: str, batch: ClipBatch) -> None:
        for decode in batch.decodes:
            self._counts[split][decode.backend, decode.reason] += 1
            if decode.damaged:
                self._damaged.add(_table(trainer, split).path(decode.video))

    def _report(self, trainer: Trainer) -> None:
        shares = all_gather_objects((dict(self._counts), self._damaged))
        if not trainer.is_global_zero:
            return
        counts = {split: sum((share[split] for share, _ in shares), Counter()) for split in shares[0][0]}
        rows = [
            (split, *key, number) for split, counted in sorted(counts.items()) for key, number in counted.most_common()
        ]
        damaged = sorted(set().union(*(paths for _, paths in shares)))
        write_csv(self.folder / "decoding.csv", [("split", "backend", "reason", "videos"), *rows])
        if damaged:
            write_csv(self.folder / "damaged.csv", [("path",), *((path,) for path in damaged)])
        notable = {row[:3] for row in rows if row[2] != _AS_ASKED} | set(damaged)
        if notable <= self._told:
            return
        self._told |= notable
        for split, counted in sorted(counts.items()):
            print_line(f"{split} videos decoded by {describe_decoding(counted)}")
        listed = f", {len(damaged)} damaged ones in damaged.csv" if damaged else ""
        print_line(f"listed in {self.folder / 'decoding.csv'}{listed}")


def describe_decoding(counted: Counter[tuple[str, str]]) -> str:
    """Counts by library and reason in words: `decord: 4012, pyav: 88 (61 its codec is hevc, 27 ...)`."""
    parts = []
    totals = Counter[str]()
    for (backend, _), number in counted.items():
        totals[backend] += number
    for backend, total in totals.most_common():
        why = [
            f"{number} {re.sub(r'^not [a-z]+: ', '', reason)}"
            for (name, reason), number in counted.most_common()
            if name == backend and reason != _AS_ASKED
        ]
        parts.append(f"{backend}: {total}" + (f" ({'; '.join(why)})" if why else ""))
    return ", ".join(parts)


def _table(trainer: Trainer, split: str) -> VideoTable:
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    return data.tables[split]
