"""Extraction on one machine: processes decode, this one has the model."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from mvit_video.data.jobs import Trouble
from mvit_video.features.decoding import Chunk
from mvit_video.features.extractor import Extractor, Place, join_features
from mvit_video.features.streams import Piece, read_in_processes
from mvit_video.features.videos import Video, VideoFeatures
from mvit_video.features.windows import Windows
from mvit_video.types import VideoDecodeError

Outcome = tuple[Video, VideoFeatures | Trouble]


@dataclass
class _Unfinished:
    """What is known of a video so far."""

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
    """Features of videos, or why there are none, as they become ready; see `read_in_processes`.

    The model takes windows of several videos at once, so that short videos fill its batches.

    Args:
        videos: drawn as processes become free.
        num_workers: processes that decode.
        count_windows: told how many windows were computed.
    """
    with closing(read_in_processes(videos, extractor.rule, num_workers, limit_seconds)) as pieces:
        yield from _Batches(extractor, count_windows).outcomes(pieces)


class _Batches:
    """Windows that wait until there are enough for the model, and the videos that they are of."""

    def __init__(self, extractor: Extractor, count_windows: Callable[[int], None]) -> None:
        self._extractor, self._count_windows = extractor, count_windows
        self._unfinished: dict[int, _Unfinished] = {}
        self._waiting: list[tuple[int, Place]] = []

    def outcomes(self, pieces: Iterable[Piece]) -> Iterator[Outcome]:
        for number, video, content in pieces:
            state = self._unfinished.setdefault(number, _Unfinished(video))
            if isinstance(content, Trouble):
                del self._unfinished[number]
                self._waiting = [each for each in self._waiting if each[0] != number]
                yield video, content
                continue
            if isinstance(content, Chunk):
                state.windows.append(content.windows)
                state.fps = content.fps
                state.num_missing += len(content.rows)
                self._waiting += [(number, Place(content, row)) for row in range(len(content.rows))]
            else:
                state.is_read = True
                yield from self._finished(number)
            yield from self._compute(at_least=self._extractor.windows_per_batch)
        yield from self._compute(at_least=1)

    def _compute(self, at_least: int) -> Iterator[Outcome]:
        """Whole batches, while so many windows wait."""
        while len(self._waiting) >= at_least:
            size = self._extractor.windows_per_batch
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            features = self._extractor.embed([place for _, place in batch])
            self._count_windows(len(batch))
            for (number, _), feature in zip(batch, features, strict=True):
                state = self._unfinished[number]
                state.features.append(feature[None])
                state.num_missing -= 1
            for number in dict.fromkeys(number for number, _ in batch):
                yield from self._finished(number)

    def _finished(self, number: int) -> Iterator[Outcome]:
        """The features of a video that is read and computed."""
        state = self._unfinished[number]
        if state.num_missing or not state.is_read:
            return
        del self._unfinished[number]
        try:
            yield state.video, join_features(state.video, state.windows, state.features, state.fps)
        except VideoDecodeError as error:
            yield state.video, Trouble("error", error.reason)
