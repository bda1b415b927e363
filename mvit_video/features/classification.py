"""What a video of any length shows, and when.

Letters: W windows, K crops, C classes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mvit_video.features.decoding import read_chunks
from mvit_video.features.extractor import Extractor, ExtractSettings
from mvit_video.features.inputs import one_video
from mvit_video.features.videos import Video
from mvit_video.features.windows import Windows
from mvit_video.runs.trained_model import TrainedModel, load_model
from mvit_video.types import Backend, ConfigError, Precision, VideoDecodeError, printable


class Segment(NamedTuple):
    """Part of a video in which one class is the most probable.

    Attributes:
        probabilities: `(C,)` mean over its windows.
    """

    start_seconds: float
    end_seconds: float
    probabilities: NDArray[np.float32]


class Unread(NamedTuple):
    """A window that does not decode, and why."""

    start_seconds: float
    end_seconds: float
    reason: str


@dataclass(frozen=True, eq=False)
class Classification:
    """Probabilities of the classes in each window of a video; printed, its k most probable classes and their times.

    Attributes:
        probabilities: `(W, C)` mean over the crops of each window.
        start_seconds: `(W,)` start of each window, counted from the first frame of the video.
        end_seconds: `(W,)` end of each window.
        center_seconds: `(W,)` half way between them.
        class_names: name of each class, when known.
        unread: windows that do not decode, in order; they are not among the W.
        k: classes that are named.

    Examples:
        >>> found = mv.classify("v.mp4", "runs/demo/version_0")
        >>> found.probabilities.shape  # windows, classes
        (6, 3)
        >>> [(segment.start_seconds, segment.end_seconds) for segment in found.segments()]
        [(0.0, ...)]
    """

    path: str
    probabilities: NDArray[np.float32]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    center_seconds: NDArray[np.float64]
    class_names: tuple[str, ...] | None
    unread: tuple[Unread, ...] = ()
    k: int = 5

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        (best,) = self.top(k=1)
        return f"<Classification of {self.path!r}: {best['name']} {_percent(best)}, {len(self.center_seconds)} windows>"

    def lines(self, num_segments: int | None = None) -> list[str]:
        """Return the most probable classes, and with several windows the segments with their times.

        Args:
            num_segments: segments to list; None lists all.
        """
        shown = [printable(self.path), *(f"  {_percent(one):>7}  {printable(one['name'])}" for one in self.top())]
        if len(self.center_seconds) == 1:
            return shown
        segments = self.segments()
        shown += [f"segments ({len(segments):,})"]
        for one in segments[:num_segments]:
            classes = ", ".join(f"{printable(each['name'])} {_percent(each)}" for each in self.top(one.probabilities))
            shown.append(f"  {clock(one.start_seconds)} to {clock(one.end_seconds)}  {classes}")
        return shown

    @property
    def overall(self) -> NDArray[np.float32]:
        """`(C,)` mean over the windows."""
        return self.probabilities.mean(axis=0)

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """`(W + 1,)` seconds between which each window counts: half way to the centres of its neighbours."""
        middles = (self.center_seconds[1:] + self.center_seconds[:-1]) / 2
        return np.concatenate([self.start_seconds[:1], middles, self.end_seconds[-1:]])

    def windows_at(self, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of the window that counts at each of these moments."""
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
        """Return the name of a class, or its number."""
        names = self.class_names
        return names[number] if names is not None and number < len(names) else f"class {number}"

    def record(self) -> dict[str, Any]:
        """Return the k most probable classes of the video, of its segments and of each window, as values of JSON."""
        windows = zip(
            self.start_seconds.tolist(), self.end_seconds.tolist(), self.center_seconds.tolist(),
            self.probabilities, strict=True,
        )  # fmt: skip
        return {
            "path": self.path,
            "class_names": None if self.class_names is None else list(self.class_names),
            "overall": self.top(),
            "segments": [
                {"start_seconds": one.start_seconds, "end_seconds": one.end_seconds, "top": self.top(one.probabilities)}
                for one in self.segments()
            ],
            "windows": [
                {"start_seconds": start, "end_seconds": end, "center_seconds": center, "top": self.top(own)}
                for start, end, center, own in windows
            ],
            "unread": [one._asdict() for one in self.unread],
        }

    def top(self, probabilities: NDArray[np.float32] | None = None, k: int | None = None) -> list[dict[str, Any]]:
        """Return `class`, `name` and `probability` of the most probable classes, equal ones in their order.

        Args:
            probabilities: `(C,)`; None takes those of the whole video.
            k: classes to return; None takes that of the classification.
        """
        given = self.overall if probabilities is None else probabilities
        return [
            {"class": number, "name": self.name(number), "probability": float(given[number])}
            for number in np.argsort(-given, kind="stable")[: k or self.k].tolist()
        ]


def classify(
    video: str | os.PathLike[str],
    model: str | os.PathLike[str] | TrainedModel,
    k: int = 5,
    *,
    window: int | str | None = None,
    stride: int | str | None = None,
    num_crops: int = 1,
    precision: Precision = "fp32",
    batch_size: int = 8,
    device: str = "auto",
    backend: Backend = "pyav",
) -> Classification:
    """Classify a video of any length window by window.

    Args:
        video: file, or its URL.
        model: run folder, checkpoint of any known format, or name of a model; or a loaded one.
        k: classes to name.
        window: frames, or seconds such as "2.5s"; None is what a clip of the model covers.
        stride: from one window to the next, as `window`; None is the window.
        num_crops: 1 or 3 crops of each window.
        precision: precision of the model.
        batch_size: clips that the model takes at once.
        device: "auto" is a GPU where there is one.
        backend: library that decodes.

    Raises:
        ConfigError: an argument is impossible, or names what is not there.
        CheckpointError: the checkpoint cannot be read.
        VideoDecodeError: the video, or every window of it, cannot be read.

    Examples:
        >>> found = mv.classify("v.mp4", "runs/demo/version_0", k=2)
        >>> print(found)
        v.mp4
          ... %  ...
          ... %  ...
        segments (...)
          0:00:00.00 to ...
        >>> found.top(k=1)[0]["name"] in found.class_names
        True
    """
    trained = load_model(model)
    settings = ExtractSettings(
        trained.name, "logits", window, stride, num_crops, True, precision, batch_size, device, backend
    )
    return classify_video(Extractor(settings, trained), one_video(os.fspath(video)), k)


def classify_video(
    extractor: Extractor, video: Video, k: int = 5, reached: Callable[[float, float], None] = lambda done, total: None
) -> Classification:
    """Classify every window of a video that decodes, in one pass that keeps a bounded part of it in memory.

    Args:
        extractor: of logits.
        k: classes to name.
        reached: called after each batch with the seconds of the video that are done, and all of them.

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
        for batch in extractor.batches(chunk):
            logits = extractor.features_of(batch)
            if not np.isfinite(logits).all():
                raise VideoDecodeError(video.path, "its logits are NaN or infinite; try another precision")
            scores = extractor.trained.scores(torch.from_numpy(logits).float())
            found.append(scores.mean(dim=1).numpy())
            reached(float(chunk.windows.end_seconds[batch[-1].row]), chunk.end_seconds)
        times.append((chunk.windows.start_seconds, chunk.windows.end_seconds, chunk.windows.center_seconds))
    if not found:
        raise VideoDecodeError(video.path, unread[0].reason if unread else "it has no window")
    start, end, center = (np.concatenate(column) for column in zip(*times, strict=True))
    names = extractor.trained.class_names
    return Classification(video.path, np.concatenate(found), start, end, center, names, tuple(unread), k)


def clock(seconds: float) -> str:
    """Return a time as `0:01:02.50`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:05.2f}"


def _percent(one: dict[str, Any]) -> str:
    return f"{100 * one['probability']:.1f} %"
