"""Re-encoding of a data set for quick reading."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from av.error import FFmpegError
from pyarrow import parquet

from mvit_video.curation.encoding import EncodeSettings, encode_video
from mvit_video.curation.scanning.checks import CONCEALED, TRIED_AGAIN, Check, inspect, schema_of, undecodable
from mvit_video.curation.scanning.scanner import write_failures
from mvit_video.data import VideoTable
from mvit_video.data.sources import require_videos
from mvit_video.jobs import Heartbeat, Ledger, Workers, WorkFailure, atomic_write, fitting_name, is_unfinished, run_job
from mvit_video.jobs.files import size_and_time
from mvit_video.types import ConfigError, MVitVideoError, VideoDecodeError

VIDEO_FOLDER = "videos"
LEDGER = "prepared"


@dataclass(frozen=True)
class Prepared:
    """Result for one video.

    Attributes:
        path: path of the source.
        size: bytes of the source.
        mtime_ns: modification time of the source.
        target: path of the new video, relative to the output folder.
        is_usable: whether there is a new video.
        kind: problem of the source, as in `scan`; None if there is none.
        target_size: bytes of the new video.
    """

    path: str
    size: int | None
    mtime_ns: int | None
    target: str
    settings: str
    is_usable: bool
    kind: str | None
    reason: str
    num_frames: int | None = None
    target_size: int | None = None


_SCHEMA = schema_of(Prepared)


class _Task(NamedTuple):
    source: str
    target: str


@dataclass(frozen=True)
class _Encoder:
    """Encoder of videos in a worker process."""

    out: Path
    settings: EncodeSettings

    def __call__(self, task: _Task, heartbeat: Heartbeat) -> Prepared | MVitVideoError:
        """Encode one video; return an error if it concerns every video."""
        check, header = inspect(task.source)
        if header is None:
            return _outcome(task, self.settings, check)
        target = self.out / task.target
        try:
            encoded = encode_video(task.source, target, self.settings, heartbeat)
            if header.missing_bytes and header.num_frames > encoded.num_frames:
                target.unlink()
                reason = f"only {encoded.num_frames} of {header.num_frames} frames exist"
                return _outcome(task, self.settings, undecodable(check, header, reason))
            if encoded.is_damaged:
                check = check.flawed("damaged", CONCEALED)
            done = _outcome(task, self.settings, check)
            target_size = target.stat().st_size
        except VideoDecodeError as error:
            return _outcome(task, self.settings, undecodable(check, header, error.reason))
        except OSError as error:
            reason = f"cannot be written ({error.strerror or error}); run the same command again to resume"
            return MVitVideoError(f"{target}: {reason}")
        except FFmpegError as error:
            return _outcome(
                task, self.settings, check.failed("other", f"cannot be encoded ({error.strerror or error})")
            )
        return replace(done, num_frames=encoded.num_frames, target_size=target_size)


@dataclass(frozen=True)
class Preparation:
    """New data set: the result for each video, annotations for training, and the list of problems."""

    videos: list[Prepared]
    annotations: Path
    failures: Path


def prepare_videos(table: VideoTable, out: Path, settings: EncodeSettings, workers: Workers) -> Preparation:
    """Encode every video that is new or has changed, and write annotations of all encoded videos.

    Raises:
        ConfigError: the videos are in shards or are images, or the output folder is that of the sources.
        JobStopped: on Ctrl-C; the same call resumes.
        MVitVideoError: the disk is full or cannot be written.
    """
    if table.archive is not None:
        raise ConfigError("prepare reads separate files, not shards; prepare them before `mvit-video pack`")
    require_videos(table, "prepare")
    if out.resolve() == table.root.resolve():
        raise ConfigError(f"--out {out} is the folder of the sources; choose another one")
    locations = [os.path.abspath(table.locate(row)) for row in range(len(table))]
    targets = name_targets(locations, table.root)
    for source, target in targets.items():
        if os.path.realpath(source) == os.path.realpath(out / target):
            raise ConfigError(f"--out {out} would replace the source {source}; choose another folder")
    _claim(out)
    ledger = Ledger(out / LEDGER, _SCHEMA)
    done = {row["path"]: row for row in ledger.load().to_pylist()}
    todo = [_Task(*task) for task in targets.items() if not _is_done(done.get(task[0]), task[1], out, settings)]
    for line in _describe_loss(done, todo, out, ledger.damaged):
        workers.console.print(line, highlight=False, markup=False, soft_wrap=True)
    run_job("encoding", _Encoder(out, settings), todo, partial(_row, settings), ledger, workers)
    rows = {row["path"]: Prepared(**row) for row in ledger.load().to_pylist()}
    videos = {path: rows[path] for path in targets}
    annotations, failures = out / "annotations.parquet", out / "failures.csv"
    _write_annotations(table, [videos[path] for path in locations], annotations)
    write_failures(pa.Table.from_pylist([asdict(video) for video in videos.values()], _SCHEMA), failures)
    return Preparation(list(videos.values()), annotations, failures)


def _claim(out: Path) -> None:
    """Create the folder of the ledger, which marks a folder of `prepare`."""
    try:
        foreign = sorted(name for name in os.listdir(out) if not is_unfinished(name)) if out.exists() else []
        if foreign and LEDGER not in foreign:
            raise ConfigError(
                f"--out {out} has {foreign[0]}, which prepare did not write; choose a new or empty folder"
            )
        (out / LEDGER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from error


def _describe_loss(done: dict[str, dict[str, Any]], todo: list[_Task], out: Path, damaged: list[str]) -> list[str]:
    """Return lines about lost new videos and damaged files of the ledger."""
    num_lost = 0
    for task in todo:
        row = done.get(task.source)
        if row is not None and row["is_usable"] and row["target"] == task.target:
            num_lost += size_and_time(str(out / task.target))[0] != row["target_size"]
    lines = [f"{num_lost:,} new videos are missing or damaged and are encoded again"] if num_lost else []
    return lines + ([f"damaged files of the ledger were moved, the first to {damaged[0]}"] if damaged else [])


def name_targets(locations: list[str], root: Path) -> dict[str, str]:
    """Return the path of each new video in the output folder; folders are kept.

    Sources that differ only in their suffix keep it before the new one.
    """
    names = {path: _inside(path, os.path.abspath(root)) for path in dict.fromkeys(locations)}
    stems = {path: os.path.splitext(name)[0] for path, name in names.items()}
    taken, whole_names = Counter(stems.values()), set(names.values())
    is_ambiguous = {path: taken[stem] > 1 or stem in whole_names for path, stem in stems.items()}
    kept = {path: os.path.split(names[path] if is_ambiguous[path] else stems[path]) for path in names}
    return {
        path: os.path.join(VIDEO_FOLDER, folder, fitting_name(stem, ".mp4")) for path, (folder, stem) in kept.items()
    }


def _inside(path: str, root: str) -> str:
    """Return a source's path below its root; sources from elsewhere get a folder named by a hash."""
    relative = os.path.relpath(path, root)
    if not relative.startswith(os.pardir + os.sep):
        return relative
    folder, name = os.path.split(path)
    return os.path.join("elsewhere", hashlib.sha256(os.fsencode(folder)).hexdigest()[:12], name)


def _is_done(row: dict[str, Any] | None, target: str, out: Path, settings: EncodeSettings) -> bool:
    if row is None or row["kind"] in TRIED_AGAIN or (row["target"], row["settings"]) != (target, str(settings)):
        return False
    if size_and_time(row["path"]) != (row["size"], row["mtime_ns"]):
        return False
    return not row["is_usable"] or size_and_time(str(out / target))[0] == row["target_size"]


def _row(settings: EncodeSettings, task: _Task, outcome: Prepared | MVitVideoError | WorkFailure) -> dict[str, Any]:
    if isinstance(outcome, MVitVideoError):
        raise outcome
    if isinstance(outcome, WorkFailure):
        check = Check(task.source, *size_and_time(task.source), "pyav", is_full=True)
        kind = "time-out" if outcome.kind == "time-out" else "other"
        outcome = _outcome(task, settings, check.failed(kind, outcome.reason))
    return asdict(outcome)


def _outcome(task: _Task, settings: EncodeSettings, check: Check) -> Prepared:
    found = (check.size, check.mtime_ns, task.target, str(settings), check.is_usable, check.kind, check.reason)
    return Prepared(task.source, *found)


def _write_annotations(table: VideoTable, videos: list[Prepared], path: Path) -> None:
    """Write the annotations of the usable videos, with the same labels and segments."""
    columns: dict[str, pa.Array] = {
        "path": pa.array([video.target for video in videos], pa.large_string()),
        **table.label_columns,
        **({} if table.spans is None else table.span_columns),
    }
    rows = pa.table(columns).filter(pa.array([video.is_usable for video in videos], pa.bool_()))
    if table.class_names is not None:
        rows = rows.replace_schema_metadata({"class_names": json.dumps(table.class_names)})
    with atomic_write(path) as unfinished:
        parquet.write_table(rows, unfinished)
