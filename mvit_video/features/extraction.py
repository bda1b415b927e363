"""Extraction from a list of videos to a manifest, with any engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mvit_video.features.extractor import Extractor, ExtractSettings
from mvit_video.features.inputs import Inputs, Stamp, find_inputs
from mvit_video.features.manifest import MANIFEST, Manifest, claimed
from mvit_video.features.videos import Video, VideoFeatures
from mvit_video.features.writers import FeatureWriter, writer_for
from mvit_video.jobs import Folder, JobStopped, WorkFailure
from mvit_video.jobs.distributed import all_gather_objects, from_first, on_first, rank_and_size
from mvit_video.runs.trained_model import TrainedModel, load_model
from mvit_video.types import Backend, Layer, Precision

Outcome = tuple[Video, VideoFeatures | WorkFailure]
Engine = Callable[[Iterable[Video], Callable[[int], None]], Generator[Outcome, None, None]]
"""Function that yields the features of videos as they become ready, and reports how many windows it has computed."""

FEATURES = "features"
# a kill loses at most as much of finished videos
_WAITING_BYTES = 2**26
_WAITING_SECONDS = 5.0


class Summary(NamedTuple):
    """Result of an extraction.

    Attributes:
        num_windows: windows that were extracted now.
        num_before: videos that had features already.
        seconds: wall-clock time.
        out: folder of the features and the manifest.
    """

    num_videos: int
    num_extracted: int
    num_windows: int
    num_before: int
    num_failed: int
    seconds: float
    out: Folder


def extract(
    videos: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    model: str | os.PathLike[str] | TrainedModel,
    window: int | str | None = 64,
    stride: int | str | None = 16,
    layer: Layer = "pooled",
    *,
    num_crops: int = 1,
    keep_crops: bool = False,
    precision: Precision = "fp32",
    batch_size: int = 8,
    device: str = "auto",
    backend: Backend = "pyav",
) -> Iterator[VideoFeatures]:
    """Yield the features of windows that slide over videos, one video after the other.

    `mvit-video extract` decodes in several processes, writes files and resumes after a stop.

    Args:
        videos: files, folders, patterns, URLs, or annotations.
        model: run folder, checkpoint of any known format, or name of a model; or a loaded one.
        window: frames, or seconds such as "2.5s"; None is what a clip of the model covers.
        stride: from one window to the next, as `window`; None is the window.
        layer: the embedding, the final tokens, the map of a stage, or the logits.
        num_crops: 1 or 3 crops of each window.
        keep_crops: keep the features of each crop instead of their mean.
        precision: precision of the model.
        batch_size: clips that the model takes at once.
        device: "auto" is a GPU where there is one.
        backend: library that decodes.

    Raises:
        ConfigError: an argument is impossible, or names what is not there.
        CheckpointError: the checkpoint cannot be read.
        VideoDecodeError: a video cannot be read.

    Examples:
        >>> for found in mv.extract("data/run", "runs/demo/version_0", window=16, stride=8):
        ...     print(found.feature.shape)  # windows, crops, channels
        (3, 1, 32)
        (3, 1, 32)
    """
    trained = load_model(model)
    settings = ExtractSettings(
        trained.name, layer, window, stride, num_crops, keep_crops, precision, batch_size, device, backend
    )
    extractor = Extractor(settings, trained)
    sources = [videos] if isinstance(videos, (str, os.PathLike)) else videos
    inputs = find_inputs([os.fspath(source) for source in sources])
    return (extractor.extract(inputs.video(number)) for number in range(len(inputs)))


def extract_videos(
    inputs: Inputs, extractor: Extractor, engine: Engine, out: str | os.PathLike[str], format: str, console: Console
) -> Summary:
    """Write the features of every video that has none yet, and the manifest, also when stopped.

    In a group of processes (`torch.distributed`) each writes files of its share of the videos; the first writes the
    manifest when all are done.

    Args:
        out: path or URL of the folder of this extraction alone.

    Returns: the result of all processes.

    Raises:
        ConfigError: `out` cannot be written to, holds other features, or two videos would share a file.
        JobStopped: on Ctrl-C; the same call resumes.
    """
    names, folder = inputs.class_names, Folder(out)
    record = extractor.record | {"format": format}
    if names is not None and (record["class_names"] is None or extractor.settings.layer != "logits"):
        record["class_names"] = list(names)  # the labels are numbers of these
    writer, manifest = writer_for(format, folder / FEATURES, record), Manifest(folder, extractor.key)
    began = time.monotonic()
    with ExitStack() as claim:

        def begin() -> NDArray[np.int64]:
            claim.enter_context(claimed(folder, record))
            plan = manifest.begin(inputs, writer)
            for line in plan.describe():
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            writer.require_free(inputs.names.take(plan.todo).to_pylist())
            return plan.todo

        def end() -> None:
            manifest.write()
            writer.finish()

        todo = cast("NDArray[np.int64]", from_first(on_first(begin)))
        rank, num_processes = rank_and_size()
        results = Results(writer, manifest)
        try:
            _extract_share(inputs, todo[rank::num_processes], engine, results, console)
        except BaseException:
            if num_processes == 1:
                manifest.write()
            raise
        counts = all_gather_objects((results.num_extracted, results.num_windows, results.num_failed))
        on_first(end)
    num_extracted, num_windows, num_failed = (sum(column) for column in zip(*counts, strict=True))
    seconds, num_before = time.monotonic() - began, len(inputs) - len(todo)
    return Summary(len(inputs), num_extracted, num_windows, num_before, num_failed, seconds, folder)


def _extract_share(inputs: Inputs, todo: NDArray[np.int64], engine: Engine, results: Results, console: Console) -> None:
    """Write the features of some videos; what is finished is on disk, however this ends."""
    try:
        with (
            _progress(console, len(todo)) as progress,
            closing(engine(results.begin(inputs, todo), progress.add_windows)) as outcomes,
        ):
            for video, outcome in outcomes:
                results.add(video, outcome)
                progress.add_video(isinstance(outcome, WorkFailure))
    except KeyboardInterrupt:
        raise JobStopped(results.num_extracted + results.num_failed, len(todo)) from None
    finally:
        results.save()


def describe(summary: Summary) -> list[str]:
    """Return the result in lines."""
    before = f", {summary.num_before:,} had features already" if summary.num_before else ""
    rate = f"{summary.num_windows:,} windows in {summary.seconds:,.1f} s"
    lines = [f"{summary.num_extracted:,} of {summary.num_videos:,} videos extracted ({rate}){before}"]
    if summary.num_failed:
        lines.append(f"{summary.num_failed:,} failed; the same command tries them again")
    lines.append(f"  {summary.out / FEATURES}  the features")
    lines.append(f"  {summary.out / MANIFEST}  status of each video")
    return lines


class Results:
    """Finished videos on their way to disk: first the features, then the ledger that lists them."""

    def __init__(self, writer: FeatureWriter, manifest: Manifest) -> None:
        self._writer, self._manifest = writer, manifest
        self._stamps: dict[str, Stamp] = {}  # of videos that were begun, by name
        self._waiting: list[VideoFeatures] = []
        self._waiting_bytes = 0
        self._last_save = time.monotonic()
        self.num_extracted = self.num_failed = self.num_windows = 0

    def begin(self, inputs: Inputs, numbers: NDArray[np.int64]) -> Iterator[Video]:
        """Yield the videos with these numbers, and note their stamps."""
        for number in numbers.tolist():
            self._stamps[inputs.names[number].as_py()] = inputs.stamp(number)
            yield inputs.video(number)

    def add(self, video: Video, outcome: VideoFeatures | WorkFailure) -> None:
        """Add a finished video that was begun."""
        if isinstance(outcome, WorkFailure):
            self.num_failed += 1
            name = video.name
            self._manifest.add(name, self._stamps.pop(name), reason=outcome.reason)
        else:
            self.num_extracted += 1
            self.num_windows += len(outcome.feature)
            self._waiting.append(outcome)
            self._waiting_bytes += outcome.feature.nbytes
        if self._waiting_bytes >= _WAITING_BYTES or time.monotonic() - self._last_save > _WAITING_SECONDS:
            self.save()

    def save(self) -> None:
        """Write what waits; if Ctrl-C comes meanwhile, a later run extracts it again."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if waiting:
            self._writer.write(waiting)
        for features in waiting:
            name = features.video.name
            self._manifest.add(name, self._stamps.pop(name), len(features.feature))
        self._manifest.flush()
        self._last_save = time.monotonic()


class _Bar:
    """Progress bar over videos with windows per second and failures."""

    def __init__(self, bar: Progress, num_videos: int) -> None:
        self._bar, self._task = bar, bar.add_task("extracting", total=num_videos, rate=0.0, failed="")
        self._began, self._num_windows, self._num_failed = time.monotonic(), 0, 0

    def add_windows(self, num_windows: int) -> None:
        """Count windows that were computed."""
        self._num_windows += num_windows
        self._bar.update(self._task, rate=self._num_windows / max(time.monotonic() - self._began, 1e-9))

    def add_video(self, is_failed: bool) -> None:
        """Count a finished video."""
        self._num_failed += is_failed
        self._bar.update(self._task, advance=1, failed=f"{self._num_failed} failed" if self._num_failed else "")


@contextmanager
def _progress(console: Console, num_videos: int) -> Iterator[_Bar]:
    """Show progress on a terminal."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("videos"),
        TextColumn("{task.fields[rate]:.1f} windows/s"), TextColumn("[red]{task.fields[failed]}"),
        TimeRemainingColumn(), TextColumn("left"),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        yield _Bar(bar, num_videos)
