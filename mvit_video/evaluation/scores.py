"""Scores of views, gathered from all processes into videos.

Letters: N views of a batch, V videos, K views of a video, C classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.jobs.distributed import all_gather_objects, gather_objects, on_first

_BLOCK_BYTES = 64 * 2**20  # sent at a time; some backends need as much memory of the device


@dataclass(frozen=True, eq=False)
class VideoViews:
    """Videos with all their views, sorted by `video`.

    Attributes:
        video: `(V,)` row of the annotation table.
        scores: `(V, K, C)` float32.
        seconds: `(V, K, 2)` start and end of each view's clip, if the batches have them.
        num_repeated: views that several processes scored, as with a sampler that pads; each counts once.
    """

    video: Tensor
    scores: Tensor
    seconds: NDArray[np.float64] | None = None
    num_repeated: int = 0

    def select(self, mask: Tensor) -> VideoViews:
        """Return the videos where `mask` is true."""
        if mask.all():  # a copy may take a gigabyte
            return self
        seconds = None if self.seconds is None else self.seconds[mask.numpy()]
        return VideoViews(self.video[mask], self.scores[mask], seconds, self.num_repeated)


@dataclass
class _Share:
    """Views of one process without their scores: row of the table, number of the view, times of the clip."""

    video: NDArray[np.int64]
    view: NDArray[np.int64]
    seconds: NDArray[np.float64] | None


@dataclass
class ViewScores:
    """Scores of the views of this process, in main memory.

    They take 4 bytes x videos x views x classes over all processes, and as much again on the first one when gathered:
    160 MB for Kinetics-400 with 5 clips x 1 crop, 1 GB with 10 clips x 3 crops.
    """

    num_views: int
    num_classes: int
    _scores: deque[NDArray[np.float32]] = field(default_factory=deque)
    _shares: list[_Share] = field(default_factory=list)

    def update(self, scores: Tensor, video: Tensor, view: Tensor, seconds: Tensor | None = None) -> None:
        """Add views: `(N, C)` scores, `(N,)` rows of the table, `(N,)` numbers of the views, `(N, 2)` times."""
        if len(video) == 0:
            return
        self._scores.append(scores.float().cpu().numpy())
        times = None if seconds is None else seconds.double().cpu().numpy()
        self._shares.append(_Share(video.cpu().numpy(), view.cpu().numpy(), times))

    def gather(self, expected: NDArray[np.int64], name: Callable[[int], str]) -> VideoViews | None:
        """Return the videos of all processes on the first, None on the others, and clear the scores.

        Args:
            expected: rows that must have all their views, like every row that has one.
            name: of the video in a row, for messages.

        Raises:
            RuntimeError: on all processes; a view is missing, or one process scored it twice.
        """
        shares = gather_objects(self._merged_shares())
        places = on_first(lambda: _Places.of(shares, self.num_views, expected, name))
        self._shares.clear()
        if places is None:
            while self._send_block():
                pass
            return None
        scores = np.empty((len(places.videos) * self.num_views, self.num_classes), np.float32)
        done = [0] * len(shares)
        while blocks := self._send_block():
            for rank, block in enumerate(blocks):
                mine = slice(done[rank], done[rank] + len(block))
                keep = places.keep[rank][mine]
                scores[places.cell[rank][mine][keep]] = block[keep]
                done[rank] += len(block)
        return VideoViews(
            torch.from_numpy(places.videos),
            torch.from_numpy(scores).view(-1, self.num_views, self.num_classes),
            places.fill(shares),
            sum(int((~keep).sum()) for keep in places.keep),
        )

    def _merged_shares(self) -> _Share:
        none = np.empty(0, np.int64)
        times = [share.seconds for share in self._shares if share.seconds is not None]
        return _Share(
            np.concatenate([none, *(share.video for share in self._shares)]),
            np.concatenate([none, *(share.view for share in self._shares)]),
            np.concatenate(times) if times and len(times) == len(self._shares) else None,
        )

    def _send_block(self) -> list[NDArray[np.float32]]:
        """Send the next block of scores; return those of all processes on the first, and nothing when all are sent."""
        if not any(all_gather_objects(bool(self._scores))):
            return []
        taken = [np.empty((0, self.num_classes), np.float32)]
        num_bytes = 0
        while self._scores and num_bytes < _BLOCK_BYTES:
            taken.append(self._scores.popleft())
            num_bytes += taken[-1].nbytes
        block = np.concatenate(taken)
        return gather_objects(block) or [block]


@dataclass
class _Places:
    """Places of the views of each process: their cell of `(V * K)`, and whether no earlier process had them."""

    videos: NDArray[np.int64]
    num_views: int
    cell: list[NDArray[np.int64]]
    keep: list[NDArray[np.bool_]]

    @staticmethod
    def of(shares: list[_Share], num_views: int, expected: NDArray[np.int64], name: Callable[[int], str]) -> _Places:
        videos = np.unique(np.concatenate([expected, *(share.video for share in shares)]))
        seen = np.zeros(len(videos) * num_views, bool)
        cells, keeps = [], []
        for share in shares:
            outside = ((share.view < 0) | (share.view >= num_views)).nonzero()[0]
            if outside.size:
                row = outside[0]
                raise RuntimeError(f"{name(int(share.video[row]))}: view {share.view[row]} of {num_views}")
            cell = np.searchsorted(videos, share.video) * num_views + share.view
            order = np.argsort(cell, kind="stable")
            twice = order[1:][cell[order][1:] == cell[order][:-1]]
            if twice.size:
                row, count = twice[0], len(np.unique(share.video[twice]))
                raise RuntimeError(
                    f"{count} of {len(videos)} videos have a view that one process scored twice, first "
                    f"{name(int(share.video[row]))}: view {share.view[row]} of {num_views}"
                )
            cells.append(cell)
            keeps.append(~seen[cell])
            seen[cell] = True
        counts = seen.reshape(-1, num_views).sum(axis=1)
        short = (counts < num_views).nonzero()[0]
        if short.size:
            raise RuntimeError(
                f"{len(short)} of {len(videos)} videos miss views, first {name(int(videos[short[0]]))}: "
                f"{counts[short[0]]} of {num_views}"
            )
        return _Places(videos, num_views, cells, keeps)

    def fill(self, shares: list[_Share]) -> NDArray[np.float64] | None:
        """Return the times of each view, `(V, K, 2)`."""
        filled = [share for share in shares if len(share.video)]
        if not filled or any(share.seconds is None for share in filled):
            return None
        seconds = np.empty((len(self.videos) * self.num_views, 2))
        for share, cell, keep in zip(shares, self.cell, self.keep, strict=True):
            if share.seconds is not None:
                seconds[cell[keep]] = share.seconds[keep]
        return seconds.reshape(-1, self.num_views, 2)
