"""The order in which videos are read, and a loader that can stop and go on anywhere in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.distributed
from torch.utils.data import DataLoader, Sampler

from mvit_video.data.dataset import ClipBatch, OnError, VideoDataset, VideoItem, collate
from mvit_video.types import ConfigError, VideoDecodeError


class EpochSampler(Sampler[tuple[int, int]]):
    """Keys `(epoch, row)` of one epoch, this process's share of them.

    Args:
        num_videos: rows of the table.
        shuffle: a new order in every epoch, given by the seed and the epoch alone.
        even: the same number of videos for every process, the surplus of an epoch left out; otherwise every video
            is read exactly once.
    """

    def __init__(self, num_videos: int, *, shuffle: bool, even: bool, seed: int = 0) -> None:
        self.num_videos, self.shuffle, self.even, self.seed = num_videos, shuffle, even, seed
        self.epoch = 0
        self.num_done = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; one that was already begun goes on where it stopped."""
        if epoch != self.epoch:
            self.epoch, self.num_done = epoch, 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rank, num_processes = _rank()
        order = np.arange(self.num_videos)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_videos)
        if self.even:
            order = order[: len(order) // num_processes * num_processes]
        return iter([(self.epoch, row) for row in order[self.num_done + rank :: num_processes].tolist()])

    def __len__(self) -> int:
        """Videos of this process in a whole epoch."""
        rank, num_processes = _rank()
        if self.even:
            return self.num_videos // num_processes
        return len(range(rank, self.num_videos, num_processes))


class VideoLoader(DataLoader[VideoItem]):
    """Batches of videos; its state tells where in which epoch it stands.

    Args:
        on_error: "raise" a `VideoDecodeError` at the first video that cannot be read, or "skip" and list it.
        **options: those of `torch.utils.data.DataLoader`.
    """

    def __init__(self, dataset: VideoDataset, *, on_error: OnError = "raise", **options: Any) -> None:
        options.setdefault("collate_fn", collate)
        super().__init__(dataset, **options)
        self.on_error: OnError = on_error
        self._epoch = 0
        self._num_batches = 0
        self._refusal: str | None = None

    def __iter__(self) -> Iterator[ClipBatch]:  # type: ignore[override]
        """Batches from where the sampler stands.

        Nothing is read before the first batch is asked for: Lightning makes the iterator before it sets the epoch.

        Raises:
            ConfigError: an epoch would go on that was begun with other videos, another seed, batch size or number of
                processes.
        """
        sampler = self._epoch_sampler()
        if sampler is not None:
            if sampler.num_done and self._refusal is not None:
                raise ConfigError(self._refusal)
            self._epoch, self._num_batches = sampler.epoch, sampler.num_done // self._videos_per_batch()
        for batch in super().__iter__():
            self._num_batches += 1
            # not in the workers: what they raise arrives here with another type and their whole stack as its text
            if batch.failures and self.on_error == "raise":
                failure = batch.failures[0]
                raise VideoDecodeError(self.dataset.table.locate(failure.video), failure.reason)  # type: ignore[attr-defined]
            yield batch
        if sampler is not None:
            sampler.num_done = 0

    def state_dict(self) -> dict[str, int]:
        """Epoch, batches handed out in it, and what its order hangs on; the end of one is the start of the next."""
        is_finished = self._num_batches >= len(self)
        position = (self._epoch + 1, 0) if is_finished else (self._epoch, self._num_batches)
        return {"epoch": position[0], "num_batches": position[1], **self._layout()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Stand where another loader stood.

        That the settings are others is no mistake as long as no more batches of that epoch are asked for, which only
        shows later: a trainer may have cut it short.
        """
        sampler, epoch, num_batches = self._epoch_sampler(), state["epoch"], state["num_batches"]
        if sampler is None:
            return
        changed = [(key, here) for key, here in self._layout().items() if state[key] != here]
        self._refusal = None
        if changed:
            key, here = changed[0]
            self._refusal = (
                f"the checkpoint stopped in the middle of epoch {epoch} with {key}={state[key]}, the data settings now "
                f"give {here}; restore them until the epoch has ended"
            )
        sampler.epoch, sampler.num_done = epoch, num_batches * self._videos_per_batch()
        self._epoch, self._num_batches = epoch, num_batches

    def _epoch_sampler(self) -> EpochSampler | None:
        # Lightning's overfit_batches puts a plain sampler in its place
        return self.sampler if isinstance(self.sampler, EpochSampler) else None

    def _layout(self) -> dict[str, int]:
        sampler = self._epoch_sampler()
        order = {"num_videos": sampler.num_videos, "seed": sampler.seed} if sampler is not None else {}
        return {"videos_per_batch": self._videos_per_batch(), **order}

    def _videos_per_batch(self) -> int:
        """Over all processes."""
        return (self.batch_size or 1) * _rank()[1]


def _rank() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
