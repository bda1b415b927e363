"""Files and lines that a run writes beside its checkpoints; a failure to write them does not end the run."""

from __future__ import annotations

import csv
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from mvit_video.jobs import atomic_write, write_rows
from mvit_video.training.checkpoint_io import system_error


@contextmanager
def survives_failure(path: Path) -> Iterator[None]:
    """Turn an `OSError` of writing `path`, such as on a full disk, into a warning."""
    try:
        yield
    except Exception as error:
        if (text := _could_not_write(path, error)) is None:
            raise
        warnings.warn(text, stacklevel=3)


def print_line(text: str) -> None:
    """Print a line at once; one that cannot be written, as to a log file on a full disk, is lost."""
    with suppress(OSError):
        print(text, flush=True)


def write_csv(path: Path, rows: Iterable[tuple[object, ...]]) -> None:
    """Write a file of the run folder, or warn."""
    with survives_failure(path), atomic_write(path) as unfinished:
        write_rows(unfinished, rows)


class MetricsFile(ExperimentWriter):
    """Writer of `metrics.csv`; rows that cannot be written wait for the next time."""

    def save(self) -> None:
        """Append the waiting rows; a new column rewrites the file."""
        if not self.metrics:
            return
        path, names = Path(self.metrics_file_path), sorted(set(self.metrics_keys).union(*self.metrics))
        with survives_failure(path):
            if names == self.metrics_keys and path.exists():
                _append(path, names, self.metrics)
            else:
                _rewrite(path, names, self.metrics)
            self.metrics_keys, self.metrics = names, []


class MetricsLogger(CSVLogger):
    """`metrics.csv` of the run folder."""

    @property
    @rank_zero_experiment
    def experiment(self) -> MetricsFile:
        """Return the writer, on the first process."""
        if self._experiment is None:
            self._experiment = MetricsFile(self.log_dir)
        return self._experiment  # pyright: ignore[reportReturnType]


class EventLogger(TensorBoardLogger):
    """TensorBoard events of the run folder; after a failed write they continue in another file."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._has_failed = False
        _hide_failed_event_writers()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add the metrics of a step."""
        with self._survives_failure():
            super().log_metrics(metrics, step)  # type: ignore[arg-type]

    def save(self) -> None:
        """Flush the events; no `hparams.yaml`, which would be empty beside `config.yaml`."""
        with self._survives_failure():
            super(TensorBoardLogger, self).save()

    def finalize(self, status: str) -> None:
        """Close the file."""
        with self._survives_failure():
            super().finalize(status)

    @contextmanager
    def _survives_failure(self) -> Iterator[None]:
        """Warn once for all failures in a row."""
        try:
            yield
        except Exception as error:
            if (text := _could_not_write(Path(self.log_dir) / "events.out.tfevents", error)) is None:
                raise
            self._drop_writer()
            if not self._has_failed:
                warnings.warn(text, stacklevel=3)
            self._has_failed = True
        else:
            self._has_failed = False

    def _drop_writer(self) -> None:
        """Have the next event begin another file: a writer that has failed keeps raising."""
        self._experiment = None
        for file in Path(self.log_dir).glob("events.out.tfevents.*"):
            if not file.stat().st_size:
                file.unlink()


def _could_not_write(path: Path, error: Exception) -> str | None:
    """Return the warning for an error of the operating system; None for any other."""
    # not an error in its context: one that a signal handler raises while a file is written is not about the file
    cause = error if isinstance(error, OSError) else error.__cause__
    reason = system_error(cause) if isinstance(cause, OSError) else None
    return reason and f"{path} could not be written ({reason}): training continues; free some space"


def _append(path: Path, names: list[str], rows: list[dict[str, float]]) -> None:
    size = path.stat().st_size
    try:
        with path.open("a", newline="") as file:
            csv.DictWriter(file, names).writerows(rows)
    except OSError:
        os.truncate(path, size)  # no half of a row
        raise


def _rewrite(path: Path, names: list[str], rows: list[dict[str, float]]) -> None:
    before: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            before = list(csv.DictReader(file))
    with atomic_write(path) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows([*before, *rows])


def _hide_failed_event_writers() -> None:
    """Keep the traceback of TensorBoard's thread off the screen: its error is raised again where metrics are logged."""
    show = threading.excepthook
    if getattr(show, "__name__", "") == "show_unless_event_writer":
        return

    def show_unless_event_writer(args: threading.ExceptHookArgs) -> None:
        if not (issubclass(args.exc_type, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
            show(args)

    threading.excepthook = show_unless_event_writer
