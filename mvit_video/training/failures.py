"""Records of a run: which videos failed, and which library decoded the others."""

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
from mvit_video.runs.results import DECODING, FAILURES, write_failures
from mvit_video.training.output import print_line, survives_failure, write_csv
from mvit_video.types import TrainingError

_AS_ASKED, _MOST_LINES = "as asked", 5


class FailureList(Callback):
    """List of the videos that failed, `failures.csv` (`path,reason`), written after every epoch.

    A video fails if it cannot be read and is skipped, or if validation gives it non-finite scores.

    Args:
        folder: where the file goes, once a video has failed.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FAILURES
        self._reasons: dict[tuple[str, tuple[float, float] | None], str] = {}  # by path and segment
        self._num_listed = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Keep the failures of a batch."""
        table = _table(trainer)
        for failure in batch.failures:
            self._reasons[table.path(failure.video), table.span(failure.video)] = failure.reason

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Keep the failures of a batch, and its videos with non-finite scores."""
        self.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        table = _table(trainer)
        rows = outputs["non_finite"].tolist() if isinstance(outputs, dict) else []  # another task may return nothing
        for row in rows:
            self._reasons[table.path(row), table.span(row)] = "the model's output is non-finite"

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the list of a validation without training."""
        if trainer.state.fn == "validate":
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the list of all processes, and print its length if it has grown."""
        reasons = {key: reason for share in all_gather_objects(self._reasons) for key, reason in share.items()}
        if len(reasons) == self._num_listed or not trainer.is_global_zero:
            return
        self._num_listed = len(reasons)
        listed = sorted((path, reason) for (path, _), reason in reasons.items())
        with survives_failure(self.path):
            write_failures(self.path, listed)
        print_line(f"videos failed so far: {len(reasons)}, listed in {self.path}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the list, unless other processes would never send theirs."""
        if trainer.world_size == 1 or isinstance(exception, TrainingError):
            self.on_train_epoch_end(trainer, pl_module)


class DecodingRecord(Callback):
    """Counts of the libraries that decoded the videos, and why each of them.

    After every epoch `decoding.csv` (`split,backend,reason,videos`) has the counts of each split's last epoch, and
    `damaged.csv` (`path`) the videos with parts that could not be decoded. A reason not to decode as asked is printed
    once.

    Args:
        folder: where the files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        self._damaged: set[str] = set()
        self._printed: set[object] = set()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the counts of the split."""
        self._counts[split_of(trainer)].clear()

    on_validation_epoch_start = on_test_epoch_start = on_train_epoch_start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Count the videos of a batch."""
        self._count(trainer, batch)

    on_validation_batch_end = on_test_batch_end = on_train_batch_end

    def _count(self, trainer: Trainer, batch: ClipBatch) -> None:
        for decode in batch.decodes:
            self._counts[split_of(trainer)][decode.backend, decode.reason] += 1
            if decode.damaged:
                self._damaged.add(_table(trainer).path(decode.video))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write and print the counts."""
        shares = all_gather_objects((dict(self._counts), self._damaged))
        if not trainer.is_global_zero:
            return
        counts = {split: sum((share[split] for share, _ in shares), Counter()) for split in shares[0][0]}
        rows = [
            (split, *key, number) for split, counted in sorted(counts.items()) for key, number in counted.most_common()
        ]
        damaged = sorted(set().union(*(paths for _, paths in shares)))
        write_csv(self.folder / DECODING, [("split", "backend", "reason", "videos"), *rows])
        if damaged:
            write_csv(self.folder / "damaged.csv", [("path",), *((path,) for path in damaged)])
        reasons = dict.fromkeys((row[1], row[2]) for row in rows if row[2] != _AS_ASKED)
        notable = reasons.keys() | set(damaged)
        if notable <= self._printed:
            return
        new = [(str(backend), str(reason)) for backend, reason in reasons if (backend, reason) not in self._printed]
        for line in describe_decoding(counts, new):
            print_line(line)
        self._printed |= notable
        listed = f", {len(damaged)} damaged videos in damaged.csv" if damaged else ""
        print_line(f"listed in {self.folder / DECODING}{listed}")

    on_test_epoch_end = on_train_epoch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write and print the counts of a validation without training."""
        if trainer.state.fn == "validate":
            self.on_train_epoch_end(trainer, pl_module)


def describe_decoding(counts: Mapping[str, Counter[tuple[str, str]]], reasons: Sequence[tuple[str, str]]) -> list[str]:
    """Return lines such as "pyav, not decord, decodes 88 train and 12 val videos: its codec is hevc".

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
    return [*lines, f"and {more} more reasons"] if more > 0 else lines


def split_of(trainer: Trainer) -> str:
    """Return the split whose loader the trainer goes through: "train", "val" or "test"."""
    assert trainer.state.stage is not None
    return str(trainer.state.stage.dataloader_prefix)


def _table(trainer: Trainer) -> VideoTable:
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    return data.tables[split_of(trainer)]
