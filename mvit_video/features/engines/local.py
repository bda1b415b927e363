"""Extraction on one machine: processes decode, this process computes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from numpy.typing import NDArray

from mvit_video.features.decoding import Chunk
from mvit_video.features.engines.streams import Piece, read_in_processes
from mvit_video.features.extraction import Outcome
from mvit_video.features.extractor import Extractor, Place, join_features
from mvit_video.features.videos import Video
from mvit_video.features.windows import Windows
from mvit_video.jobs import WorkFailure
from mvit_video.types import VideoDecodeError

Waiting = tuple[int, Place]


@dataclass
class _Unfinished:
    """A video whose features are not complete yet."""

    video: Video
    windows: list[Windows] = field(default_factory=list)
    features: list[NDArray[Any]] = field(default_factory=list)
    fps: float = 0.0
    num_missing: int = 0
    is_read: bool = False


def extract_locally(
    videos: Iterable[Video],
    extractor: Extractor,
    num_workers: int,
    limit_seconds: float,
    count_windows: Callable[[int], None] = lambda num_windows: None,
) -> Generator[Outcome, None, None]:
    """Yield the features of videos, or their failures, as they become ready; see `read_in_processes`.

    A batch of the model holds windows of several videos, so that short videos fill it.

    Args:
        num_workers: processes that decode.
        count_windows: called with the number of windows that were computed.
    """
    batches = Batches()
    with closing(read_in_processes(videos, extractor.rule, num_workers, limit_seconds)) as pieces:
        for piece in chain(pieces, [None]):
            if piece is not None:
                yield from batches.add(piece)
            while batch := batches.take(extractor.windows_per_batch, whole=piece is not None):
                features = extractor.features_of([place for _, place in batch])
                count_windows(len(batch))
                yield from batches.fill(batch, features)


class Batches:
    """Windows that wait for the model, with the number of their video, and the videos."""

    def __init__(self) -> None:
        self._unfinished: dict[int, _Unfinished] = {}
        self._waiting: list[Waiting] = []

    def add(self, piece: Piece) -> Iterator[Outcome]:
        """Add what was read; yield the video that it finishes, if any."""
        number, video, content = piece
        state = self._unfinished.setdefault(number, _Unfinished(video))
        if isinstance(content, WorkFailure):
            del self._unfinished[number]
            self._waiting = [each for each in self._waiting if each[0] != number]
            yield video, content
        elif isinstance(content, Chunk):
            state.windows.append(content.windows)
            state.fps = content.fps
            state.num_missing += len(content.rows)
            self._waiting += [(number, Place(content, row)) for row in range(len(content.rows))]
        else:
            state.is_read = True
            yield from self._finished(number)

    def take(self, size: int, *, whole: bool) -> list[Waiting]:
        """Return the next windows for the model; with `whole` none while fewer than a batch wait."""
        if whole and len(self._waiting) < size:
            return []
        batch, self._waiting = self._waiting[:size], self._waiting[size:]
        return batch

    def fill(self, batch: Sequence[Waiting], features: NDArray[Any]) -> Iterator[Outcome]:
        """Add the features of a batch; yield the videos that they finish."""
        for (number, _), feature in zip(batch, features, strict=True):
            if state := self._unfinished.get(number):  # none if its process has died meanwhile
                state.features.append(feature[None])
                state.num_missing -= 1
        for number in dict.fromkeys(number for number, _ in batch):
            yield from self._finished(number)

    def _finished(self, number: int) -> Iterator[Outcome]:
        """Yield the features of a video that is read and computed."""
        state = self._unfinished.get(number)
        if state is None or state.num_missing or not state.is_read:
            return
        del self._unfinished[number]
        try:
            yield state.video, join_features(state.video, state.windows, state.features, state.fps)
        except VideoDecodeError as error:
            yield state.video, WorkFailure("error", error.reason)
