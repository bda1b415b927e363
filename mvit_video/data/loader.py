"""Order of videos in an epoch, and a loader that can resume within it."""

from __future__ import annotations

import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler
from torch.utils.data._utils import signal_handling

from mvit_video.data.dataset import ClipBatch, OnError, VideoDataset, VideoItem, collate
from mvit_video.jobs.distributed import rank_and_size
from mvit_video.jobs.pool import end_with_parent, killed_with_parent
from mvit_video.types import ConfigError, MVitVideoError, VideoDecodeError

_PATIENCE_SECONDS = 300
_DEATHS = {
    "Killed": "probably out of memory: lower data.loading.num_workers or data.loading.batch_size, or set "
    "data.input.decode_short_side",
    "Bus error": "out of shared memory (/dev/shm): enlarge it, or lower data.loading.num_workers",
    "Segmentation fault": "a video crashed the decoder: find it with mvit-video scan, or set data.loading.backend=pyav",
}


class EpochSampler(Sampler[tuple[int, int]]):
    """Sampler of keys `(epoch, row)`, this process's share of an epoch.

    Args:
        num_videos: rows of the table.
        shuffle: use a new order in every epoch, which depends only on seed and epoch.
        even: give every process the same number of videos and skip the rest; otherwise read every video once.
    """

    def __init__(self, num_videos: int, *, shuffle: bool, even: bool, seed: int = 0) -> None:
        self.num_videos, self.shuffle, self.even, self.seed = num_videos, shuffle, even, seed
        self.epoch = 0
        self.num_done = 0

    def set_epoch(self, epoch: int) -> None:
        """Move to the start of an epoch; the current epoch continues where it stopped."""
        if epoch != self.epoch:
            self.epoch, self.num_done = epoch, 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rank, num_processes = rank_and_size()
        stop = self.num_videos // num_processes * num_processes if self.even else self.num_videos
        mine = slice(self.num_done + rank, stop, num_processes)
        rows = range(self.num_videos)[mine]
        if self.shuffle:
            rows = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_videos)[mine]
        epoch = self.epoch
        return ((epoch, int(row)) for row in rows)  # lazily: there may be millions

    def __len__(self) -> int:
        """Return the videos of this process in an epoch."""
        rank, num_processes = rank_and_size()
        if self.even:
            return self.num_videos // num_processes
        return len(range(rank, self.num_videos, num_processes))


def _begin_worker(number: int, *, is_of_main_thread: bool, then: Callable[[int], None] | None) -> None:
    """Make a loader process end with its parent, and call the user's function."""
    if is_of_main_thread:  # another thread may end long before the process
        killed_with_parent()
    end_with_parent()
    if then is not None:
        then(number)


def _notice_dead_workers() -> None:
    """Let torch install its handler of SIGCHLD again, which it does once and Lightning removes after a run."""
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL:
        signal_handling._SIGCHLD_handler_set = False


class VideoLoader(DataLoader[VideoItem]):
    """Loader of batches of videos; its state is the epoch and the position in it.

    Workers end with the process that reads from them.

    Args:
        on_error: "raise" a `VideoDecodeError` for the first video that cannot be read, or "skip" it and list it.
        **options: options of `torch.utils.data.DataLoader`; after `timeout` seconds without a batch a warning names the
            videos to wait for.
    """

    def __init__(self, dataset: VideoDataset, *, on_error: OnError = "raise", **options: Any) -> None:
        options.setdefault("collate_fn", collate)
        options.setdefault("timeout", _PATIENCE_SECONDS if options.get("num_workers") else 0)
        super().__init__(dataset, **options)
        self.on_error: OnError = on_error
        self._init_of_user: Callable[[int], None] | None = self.worker_init_fn
        self._epoch = 0
        self._num_batches = 0
        self._refusal: str | None = None

    def __iter__(self) -> Iterator[ClipBatch]:  # type: ignore[override]
        """Yield batches from the position of the sampler.

        Nothing is read before the first batch: Lightning makes the iterator before it sets the epoch.

        Raises:
            ConfigError: the epoch to resume had other videos, seed, batch size or number of processes.
            VideoDecodeError: a video cannot be read, and `on_error` is "raise".
            MVitVideoError: a worker died.
        """
        sampler = self._epoch_sampler()
        if sampler is not None:
            if sampler.num_done and self._refusal is not None:
                raise ConfigError(self._refusal)
            self._epoch, self._num_batches = sampler.epoch, sampler.num_done // self._videos_per_batch()
        is_of_main_thread = threading.current_thread() is threading.main_thread()
        self.worker_init_fn = partial(_begin_worker, is_of_main_thread=is_of_main_thread, then=self._init_of_user)
        _notice_dead_workers()
        batches = super().__iter__()
        try:
            while (batch := self._wait_for(batches)) is not None:
                self._num_batches += 1
                # errors of workers arrive with another type and their stack as text
                if batch.failures and self.on_error == "raise":
                    failure = batch.failures[0]
                    raise VideoDecodeError(self.dataset.table.locate(failure.video), failure.reason)  # type: ignore[attr-defined]
                yield batch
        finally:
            del batches  # end the workers, which a kept error would keep alive
        if sampler is not None:
            sampler.num_done = 0

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, its number of batches so far, and the settings of its order."""
        is_finished = self._num_batches >= len(self)
        position = (self._epoch + 1, 0) if is_finished else (self._epoch, self._num_batches)
        return {"epoch": position[0], "num_batches": position[1], **self._layout()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Move to the position of another loader.

        Other settings are an error only if the epoch continues; a trainer may have ended it early.
        """
        sampler, epoch, num_batches = self._epoch_sampler(), state["epoch"], state["num_batches"]
        if sampler is None:
            return
        changed = [
            f"the checkpoint stopped in the middle of epoch {epoch} with {key}={state[key]}, the data settings now "
            f"give {here}; restore them until the epoch ends"
            for key, here in self._layout().items()
            if state[key] != here
        ]
        self._refusal = changed[0] if changed else None
        sampler.epoch, sampler.num_done = epoch, num_batches * self._videos_per_batch()
        self._epoch, self._num_batches = epoch, num_batches

    def _wait_for(self, batches: Iterator[Any]) -> ClipBatch | None:
        """Return the next batch; None after the last."""
        seconds = 0
        while True:
            try:
                return next(batches, None)
            except RuntimeError as error:
                if death := explain_dead_worker(error):
                    raise death from None
                if "DataLoader timed out" not in str(error):
                    raise
                # not an error: an item may have hours of video
                seconds += self.timeout
                warnings.warn(
                    f"no batch for {seconds:g} seconds; waiting for {', '.join(self._awaited())}", stacklevel=3
                )

    def _awaited(self) -> list[str]:
        """Return the videos of the next batch."""
        sampler = self._epoch_sampler()
        if sampler is None:
            return ["a batch"]
        first = self._num_batches * (self.batch_size or 1) - sampler.num_done // rank_and_size()[1]
        rows = [row for _, row in islice(sampler, first, first + (self.batch_size or 1))]
        return [str(self.dataset.table.locate(row)) for row in rows]  # type: ignore[attr-defined]

    def _epoch_sampler(self) -> EpochSampler | None:
        # Lightning's overfit_batches puts a plain sampler in its place
        return self.sampler if isinstance(self.sampler, EpochSampler) else None

    def _layout(self) -> dict[str, int]:
        sampler = self._epoch_sampler()
        order = {"num_videos": sampler.num_videos, "seed": sampler.seed} if sampler is not None else {}
        return {"videos_per_batch": self._videos_per_batch(), **order}

    def _videos_per_batch(self) -> int:
        """Return the videos in a batch of all processes."""
        return (self.batch_size or 1) * rank_and_size()[1]


def explain_dead_worker(error: Exception) -> MVitVideoError | None:
    """Return an error with advice about a dead loader process; None for other errors.

    Torch may raise such an error anywhere in the main process.
    """
    text = f"{error} {error.__cause__}"  # the cause may have the signal
    death = re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)", text)
    if death is None:
        return None
    by_signal = re.search(r"is killed by signal: ([^.]+)", text)
    how = f"was ended by a signal ({by_signal[1]})" if by_signal else "exited"
    advice = _DEATHS.get(by_signal[1] if by_signal else "", "set data.loading.num_workers=0 to see the error")
    return MVitVideoError(f"a loader process (pid {death[1]}) {how}: {advice}")
