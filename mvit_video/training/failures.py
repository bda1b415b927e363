"""How the videos of a run were read, and which could not be."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mvit_video.data import VideoTable
from mvit_video.data.dataset import ClipBatch
from mvit_video.jobs.distributed import all_gather_objects
from mvit_video.training.output import print_line, write_csv
from mvit_video.types import TrainingError

_AS_ASKED, _MOST_LINES = "as asked", 5


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
    `damaged.csv` (`path`) the videos that were delivered although parts of them could not be decoded. Why videos were
    not decoded as asked is printed, each reason once.

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
        reasons = dict.fromkeys((row[1], row[2]) for row in rows if row[2] != _AS_ASKED)
        notable = reasons.keys() | set(damaged)
        if notable <= self._told:
            return
        new = [(str(backend), str(reason)) for backend, reason in reasons if (backend, reason) not in self._told]
        for line in describe_decoding(counts, new):
            print_line(line)
        self._told |= notable
        listed = f", {len(damaged)} damaged videos in damaged.csv" if damaged else ""
        print_line(f"listed in {self.folder / 'decoding.csv'}{listed}")


def describe_decoding(counts: Mapping[str, Counter[tuple[str, str]]], reasons: Sequence[tuple[str, str]]) -> list[str]:
    """Lines such as "pyav, not decord, decodes 88 train and 12 val videos: its codec is hevc".

    Args:
        counts: videos by backend and reason, of each split.
        reasons: backend and reason of each line; beyond `_MOST_LINES` a last line counts the others.
    """
    lines = []
    for key in reasons[:_MOST_LINES]:
        backend, (wanted, _, why) = key[0], re.fullmatch(r"(?:not ([a-z]+))?(: )?(.*)", key[1]).groups()  # type: ignore
        numbers = " and ".join(f"{counted[key]:,} {split}" for split, counted in sorted(counts.items()) if counted[key])
        lines.append(f"{backend}{f', not {wanted},' if wanted else ''} decodes {numbers} videos: {why}")
    more = len(reasons) - _MOST_LINES
    return [*lines, f"and so on for {more} more reasons"] if more > 0 else lines


def _table(trainer: Trainer, split: str) -> VideoTable:
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    return data.tables[split]
