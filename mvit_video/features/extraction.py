"""An extraction from the list of videos to the manifest, whichever engine computes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mvit_video.features.extractor import Extractor
from mvit_video.features.inputs import Inputs, Stamp
from mvit_video.features.manifest import MANIFEST, Manifest, claimed
from mvit_video.features.videos import Video, VideoFeatures
from mvit_video.features.writers import FeatureWriter, writer_for
from mvit_video.features.writers.naming import group_name
from mvit_video.jobs import Folder, JobStopped, WorkFailure

Outcome = tuple[Video, VideoFeatures | WorkFailure]
Engine = Callable[[Iterable[Video], Callable[[int], None]], Generator[Outcome, None, None]]
"""Computes features of videos, as they become ready; may tell how many windows it has computed."""

FEATURES = "features"
# what a kill loses of finished videos at most
_WAITING_BYTES = 2**26
_WAITING_SECONDS = 5.0


class Summary(NamedTuple):
    """What has become of the videos that were asked for.

    Attributes:
        num_windows: of those that were extracted now.
        num_before: had features already.
        num_failed: have none.
        seconds: wall clock.
        out: with the features, and the manifest that tells of each.
    """

    num_videos: int
    num_extracted: int
    num_windows: int
    num_before: int
    num_failed: int
    seconds: float
    out: Folder


def extract_videos(
    inputs: Inputs, extractor: Extractor, engine: Engine, out: str | os.PathLike[str], format: str, console: Console
) -> Summary:
    """Extracts features of every video that has none yet, and writes the manifest, also when it is stopped.

    Args:
        out: path or URL of the folder of this extraction alone.
        format: of the features.
        console: where progress is shown.

    Raises:
        ConfigError: `out` cannot be written to, holds other features, or its format cannot keep two videos apart.
        JobStopped: on Ctrl-C; the same call goes on.
    """
    names = inputs.class_names
    record = extractor.record | {"format": format}
    if names is not None and (record["class_names"] is None or extractor.settings.layer != "logits"):
        record["class_names"] = list(names)  # which number the labels
    folder = Folder(out)
    writer = writer_for(format, folder / FEATURES, record)
    with claimed(folder, record):
        began = time.monotonic()
        manifest = Manifest(folder, extractor.key)
        plan = manifest.begin(inputs, writer)
        todo = plan.todo
        for line in plan.describe():
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        writer.require_free(inputs.names.take(todo).to_pylist())
        stamps: dict[str, Stamp] = {}

        def videos() -> Iterator[Video]:
            for number in todo.tolist():
                stamps[inputs.names[number].as_py()] = inputs.stamp(number)
                yield inputs.video(number)

        results = Results(writer, manifest, stamps)
        try:
            with (
                extraction_progress(console, len(todo)) as progress,
                closing(engine(videos(), progress.add_windows)) as outcomes,
            ):
                for video, outcome in outcomes:
                    results.add(video, outcome)
                    progress.add_video(isinstance(outcome, WorkFailure))
        except KeyboardInterrupt:
            raise JobStopped(results.num_extracted + results.num_failed, len(todo)) from None
        finally:
            results.save()
            manifest.write()
        writer.finish()
    return Summary(
        num_videos=len(inputs),
        num_extracted=results.num_extracted,
        num_windows=results.num_windows,
        num_before=len(inputs) - len(todo),
        num_failed=results.num_failed,
        seconds=time.monotonic() - began,
        out=folder,
    )


def describe(summary: Summary) -> list[str]:
    """What has become of the videos, in lines."""
    before = f", {summary.num_before:,} had features already" if summary.num_before else ""
    rate = f"{summary.num_windows:,} windows in {summary.seconds:,.1f} s"
    lines = [f"{summary.num_extracted:,} of {summary.num_videos:,} videos extracted ({rate}){before}"]
    if summary.num_failed:
        lines.append(f"{summary.num_failed:,} failed; the same command tries them again")
    lines.append(f"  {summary.out / FEATURES}  the features")
    lines.append(f"  {summary.out / MANIFEST}  what became of each video, and why")
    return lines


class Results:
    """Finished videos on their way to the disk: features first, and then the ledger, so that it never says too much.

    Args:
        stamps: of videos that were begun, by name.
    """

    def __init__(self, writer: FeatureWriter, manifest: Manifest, stamps: dict[str, Stamp]) -> None:
        self._writer, self._manifest, self._stamps = writer, manifest, stamps
        self._waiting: list[VideoFeatures] = []
        self._waiting_bytes = 0
        self._last_save = time.monotonic()
        self.num_extracted = self.num_failed = self.num_windows = 0

    def add(self, video: Video, outcome: VideoFeatures | WorkFailure) -> None:
        """Takes a finished video."""
        if isinstance(outcome, WorkFailure):
            self.num_failed += 1
            name = group_name(video.path, video.span)
            self._manifest.add_failed(name, self._stamps.pop(name), outcome.reason)
        else:
            self.num_extracted += 1
            self.num_windows += len(outcome.feature)
            self._waiting.append(outcome)
            self._waiting_bytes += outcome.feature.nbytes
        if self._waiting_bytes >= _WAITING_BYTES or time.monotonic() - self._last_save > _WAITING_SECONDS:
            self.save()

    def save(self) -> None:
        """Puts what waits on disk."""
        if self._waiting:
            self._writer.write(self._waiting)
        for features in self._waiting:
            name = group_name(features.video.path, features.video.span)
            self._manifest.add_done(name, self._stamps.pop(name), len(features.feature))
        self._manifest.flush()
        self._waiting, self._waiting_bytes, self._last_save = [], 0, time.monotonic()


class ExtractionBar:
    """A progress bar over videos that tells windows per second and failures too."""

    def __init__(self, bar: Progress, num_videos: int) -> None:
        self._bar, self._task = bar, bar.add_task("extracting", total=num_videos, rate=0.0, failed="")
        self._began, self._num_windows, self._num_failed = time.monotonic(), 0, 0

    def add_windows(self, num_windows: int) -> None:
        """Tells of windows that were computed."""
        self._num_windows += num_windows
        self._bar.update(self._task, rate=self._num_windows / max(time.monotonic() - self._began, 1e-9))

    def add_video(self, is_failed: bool) -> None:
        """Tells of a video that is finished."""
        self._num_failed += is_failed
        self._bar.update(self._task, advance=1, failed=f"{self._num_failed} failed" if self._num_failed else "")


@contextmanager
def extraction_progress(console: Console, num_videos: int) -> Iterator[ExtractionBar]:
    """Nothing is shown off a terminal."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("videos"),
        TextColumn("{task.fields[rate]:.1f} windows/s"), TextColumn("[red]{task.fields[failed]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        yield ExtractionBar(bar, num_videos)
