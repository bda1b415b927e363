"""Videos that lie in tar files, read one at a time."""

from __future__ import annotations

import posixpath
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mvit_video.jobs.stores import Shard, find_shard, read_range
from mvit_video.types import VideoDecodeError

_NUM_THREADS = 8


@dataclass(frozen=True, eq=False)
class TarArchive:
    """Where in which shard each video of a table lies; numbers alone, so that every process may have it.

    Attributes:
        shards: the tar files.
        shard_of: int32 place of each video's shard in `shards`.
        offsets: int64 byte at which a video starts in its shard.
        sizes: int64 bytes of a video.
    """

    shards: tuple[Shard, ...]
    shard_of: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def read(self, row: int) -> bytes:
        """The file of the video in a row, by one read of that part of its shard.

        Raises:
            VideoDecodeError: the shard cannot be read, or is no longer what was indexed.
        """
        shard = self.shards[self.shard_of[row]]
        try:
            return read_range(shard, int(self.offsets[row]), int(self.sizes[row]))
        except Exception as error:  # each file system has its own
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise VideoDecodeError(
                shard.url, f"shard {posixpath.basename(shard.url)} cannot be read ({reason})"
            ) from error

    def version(self, row: int) -> str:
        """Size and stamp of the shard, and where in it the video lies."""
        size, stamp = self._versions[self.shard_of[row]]
        return f"{size} {stamp} {self.offsets[row]}+{self.sizes[row]}"

    @cached_property
    def _versions(self) -> list[tuple[int, str]]:
        """Size and stamp of each shard; the index of packed shards at a URL has no stamps."""

        def find(shard: Shard) -> tuple[int, str]:
            found = shard if shard.stamp else find_shard(shard.url)
            return found.size, found.stamp

        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            return list(threads.map(find, self.shards))

    def take(self, rows: NDArray[np.int64]) -> TarArchive:
        """The archive of some of the videos, with the shards that they lie in."""
        kept, shard_of = np.unique(self.shard_of[rows], return_inverse=True)
        return replace(
            self,
            shards=tuple(self.shards[shard] for shard in kept),
            shard_of=shard_of.astype(np.int32),
            offsets=self.offsets[rows],
            sizes=self.sizes[rows],
        )
