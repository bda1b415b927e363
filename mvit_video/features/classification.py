"""What a video of any length shows, and when.

Letters: W windows, K crops, C classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mvit_video.features.decoding import read_chunks
from mvit_video.features.extractor import Extractor, Place
from mvit_video.features.videos import Video
from mvit_video.features.windows import Windows
from mvit_video.types import ConfigError, VideoDecodeError


class Segment(NamedTuple):
    """A stretch of a video in which one class is the most probable.

    Attributes:
        probabilities: `(C,)` mean over its windows.
    """

    start_seconds: float
    end_seconds: float
    probabilities: NDArray[np.float32]


class Unread(NamedTuple):
    """A window that does not decode.

    Attributes:
        reason: why.
    """

    start_seconds: float
    end_seconds: float
    reason: str


@dataclass(frozen=True, eq=False)
class Classification:
    """The classes of the windows of a video.

    Attributes:
        probabilities: `(W, C)` mean over the crops of each window.
        start_seconds: `(W,)` where it begins, counted from the first frame of the video.
        end_seconds: `(W,)` where it ends.
        center_seconds: `(W,)` half way between them.
        class_names: name of each class, when known.
        unread: windows that do not decode, in order; they are not among the W.
    """

    path: str
    probabilities: NDArray[np.float32]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    center_seconds: NDArray[np.float64]
    class_names: tuple[str, ...] | None
    unread: tuple[Unread, ...] = ()

    @property
    def overall(self) -> NDArray[np.float32]:
        """`(C,)` mean over the windows."""
        return self.probabilities.mean(axis=0)

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """`(W + 1,)` seconds between which each window has its say: half way to the centres of its neighbours."""
        middles = (self.center_seconds[1:] + self.center_seconds[:-1]) / 2
        return np.concatenate([self.start_seconds[:1], middles, self.end_seconds[-1:]])

    def windows_at(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number of the window that has its say at each of these moments."""
        return np.searchsorted(self.edges[1:-1], seconds, side="right")

    def segments(self) -> list[Segment]:
        """Cut the video where the most probable class changes, and where windows between do not decode."""
        best = self.probabilities.argmax(axis=1)
        lost = np.array([one.start_seconds for one in self.unread])
        is_gap = np.diff(np.searchsorted(lost, self.start_seconds)) > 0
        cuts = np.concatenate([[0], np.flatnonzero((np.diff(best) != 0) | is_gap) + 1, [len(best)]]).tolist()
        segments = []
        for start, end in itertools.pairwise(cuts):
            begins = self.start_seconds if start and is_gap[start - 1] else self.edges
            ends = self.end_seconds[end - 1] if end < len(best) and is_gap[end - 1] else self.edges[end]
            mean = self.probabilities[start:end].mean(axis=0)
            segments.append(Segment(float(begins[start]), float(ends), mean))
        return segments

    def name(self, number: int) -> str:
        """Name of a class, or its number."""
        names = self.class_names
        return names[number] if names is not None and number < len(names) else f"class {number}"

    def record(self, k: int) -> dict[str, Any]:
        """As JSON has it: the k most probable classes of the video, of its segments and of each window."""
        windows = zip(
            self.start_seconds.tolist(), self.end_seconds.tolist(), self.center_seconds.tolist(),
            self.probabilities, strict=True,
        )  # fmt: skip
        return {
            "path": self.path,
            "class_names": None if self.class_names is None else list(self.class_names),
            "overall": self.top(self.overall, k),
            "segments": [
                {"start_seconds": one.start_seconds, "end_seconds": one.end_seconds, "top": self.top(one[2], k)}
                for one in self.segments()
            ],
            "windows": [
                {"start_seconds": start, "end_seconds": end, "center_seconds": center, "top": self.top(own, k)}
                for start, end, center, own in windows
            ],
            "unread": [one._asdict() for one in self.unread],
        }

    def top(self, probabilities: NDArray[np.float32], k: int) -> list[dict[str, Any]]:
        """The k most probable classes, equal ones in their order."""
        return [
            {"class": number, "name": self.name(number), "probability": float(probabilities[number])}
            for number in np.argsort(-probabilities, kind="stable")[:k].tolist()
        ]


def classify_video(extractor: Extractor, video: Video, reached: Callable[[float], None]) -> Classification:
    """Classify every window of a video that decodes, in one pass that keeps a bounded part of it in memory.

    Args:
        extractor: of logits.
        reached: told after each batch how many seconds of the video are done.

    Raises:
        ConfigError: the extractor does not give logits.
        VideoDecodeError: the video, or every window of it, cannot be read.
    """
    if extractor.settings.layer != "logits":
        raise ConfigError(f"classes follow from the layer logits, got {extractor.settings.layer}")
    found, times, unread = [], [], []

    def note(window: Windows, error: VideoDecodeError) -> None:
        unread.append(Unread(float(window.start_seconds[0]), float(window.end_seconds[0]), error.reason))

    for chunk in read_chunks(video, extractor.rule, note):
        places = [Place(chunk, row) for row in range(len(chunk.rows))]
        for start in range(0, len(places), extractor.windows_per_batch):
            batch = places[start : start + extractor.windows_per_batch]
            logits = extractor.features_of(batch)
            if not np.isfinite(logits).all():
                raise VideoDecodeError(video.path, "its logits are not finite numbers; try another precision")
            scores = torch.from_numpy(logits).float()
            scores = scores.sigmoid() if extractor.trained.multi_label else scores.softmax(dim=2)
            found.append(scores.mean(dim=1).numpy())
            reached(float(chunk.windows.end_seconds[start + len(batch) - 1]))
        times.append((chunk.windows.start_seconds, chunk.windows.end_seconds, chunk.windows.center_seconds))
    if not found:
        raise VideoDecodeError(video.path, unread[0].reason if unread else "it has no window")
    start_seconds, end_seconds, center_seconds = (np.concatenate(column) for column in zip(*times, strict=True))
    return Classification(
        video.path, np.concatenate(found), start_seconds, end_seconds, center_seconds, extractor.trained.class_names,
        tuple(unread),
    )  # fmt: skip
