"""Scan of the videos of a table, its manifest, and the list of problems."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from mvit_video.curation.scanning.checks import CHECK_SCHEMA, TRIED_AGAIN, Check, Checker, hash_file
from mvit_video.data import VideoTable
from mvit_video.data.readers import Backend, IndexCache
from mvit_video.data.readers.libraries import require_torchcodec
from mvit_video.data.sources import require_videos
from mvit_video.jobs import Ledger, Workers, WorkFailure, atomic_write, run_job, write_rows
from mvit_video.jobs.arrow import compute
from mvit_video.jobs.files import size_and_time
from mvit_video.types import ConfigError

_HASH_SCHEMA = pa.schema({"path": pa.string(), "size": pa.int64(), "mtime_ns": pa.int64(), "sha256": pa.string()})


@dataclass(frozen=True)
class ScanSettings:
    """Settings of a scan.

    Attributes:
        backend: library of the training to come.
        is_full: decode every frame and hash every file, instead of three frames and files of equal size.
        min_seconds: shorter videos and segments are a problem.
    """

    backend: Backend = "decord"
    is_full: bool = False
    min_seconds: float = 0.5


def scan_videos(table: VideoTable, out: Path, settings: ScanSettings, workers: Workers) -> pa.Table:
    """Check every video that is new or has changed, and return the manifest of all.

    Args:
        out: folder for the results `checked` and `hashed`, and the packet indices `index`.

    Raises:
        ConfigError: the videos are in shards or are images, or the backend is not installed.
        JobStopped: on Ctrl-C; the same call resumes.
    """
    if table.archive is not None:
        raise ConfigError("scan reads separate files, not shards; scan them before `mvit-video pack`")
    require_videos(table, "scan")
    if settings.backend == "torchcodec":
        require_torchcodec()
    locations = pa.array([os.path.abspath(table.locate(row)) for row in range(len(table))], pa.string())
    distinct = locations.unique()
    ledger = Ledger(out / "checked", CHECK_SCHEMA)
    known = ledger.load()
    if ledger.damaged:
        moved = f"damaged files were moved, the first to {ledger.damaged[0]}; their videos are checked again"
        workers.console.print(moved, highlight=False, markup=False, soft_wrap=True)
    valid = compute.and_(
        compute.equal(known["asked_backend"], settings.backend),
        compute.and_(
            compute.or_(known["is_full"], not settings.is_full),
            compute.invert(compute.is_in(known["kind"], value_set=pa.array(TRIED_AGAIN))),
        ),
    )
    checker = Checker(settings.backend, settings.is_full, IndexCache(out / "index"))
    row_of = partial(_check_row, settings)
    run_job("checking", checker, _not_yet(distinct, known.filter(valid)), row_of, ledger, workers)
    checks = ledger.load()
    checks = checks.take(compute.index_in(distinct, value_set=checks["path"]))
    return build_manifest(table, locations, _with_hashes(checks, out / "hashed", workers), settings.min_seconds)


def _check_row(settings: ScanSettings, path: str, outcome: Check | WorkFailure) -> dict[str, Any]:
    if isinstance(outcome, WorkFailure):
        check = Check(path, *size_and_time(path), settings.backend, settings.is_full)
        outcome = check.failed("time-out" if outcome.kind == "time-out" else "other", outcome.reason)
    return asdict(outcome)


def _with_hashes(checks: pa.Table, folder: Path, workers: Workers) -> pa.Table:
    """Add the hashes of files of equal size, which may be duplicates."""
    counts = checks.filter(compute.greater(checks["size"], 0)).group_by("size").aggregate([("path", "count")])
    shared = counts.filter(compute.greater(counts["path_count"], 1))["size"]
    is_asked = compute.and_(compute.is_in(checks["size"], value_set=shared), compute.is_null(checks["sha256"]))
    ledger = Ledger(folder, _HASH_SCHEMA)
    known = ledger.load()
    known = known.filter(compute.is_valid(known["sha256"]))
    todo = _not_yet(checks.filter(is_asked)["path"].combine_chunks(), known)
    run_job("comparing files of equal size", hash_file, todo, _hash_row, ledger, workers)
    hashed = ledger.load()
    found = hashed["sha256"].take(compute.index_in(checks["path"], value_set=hashed["path"]))
    if left := compute.sum(compute.and_(is_asked, compute.is_null(found))).as_py():
        workers.console.print(f"{left:,} files of equal size could not be compared; the next scan tries again")
    at = checks.schema.get_field_index("sha256")
    return checks.set_column(at, "sha256", compute.coalesce(checks["sha256"], compute.if_else(is_asked, found, None)))


def _hash_row(path: str, outcome: str | WorkFailure) -> dict[str, Any]:
    size, mtime_ns = size_and_time(path)
    digest = None if isinstance(outcome, WorkFailure) else outcome
    return {"path": path, "size": size, "mtime_ns": mtime_ns, "sha256": digest}


def _not_yet(paths: pa.Array, known: pa.Table) -> list[str]:
    """Return the paths that are unknown or whose file has changed."""
    columns = (known[name].to_pylist() for name in ("path", "size", "mtime_ns"))
    done = {path: (size, mtime_ns) for path, size, mtime_ns in zip(*columns, strict=True)}
    return [path for path in paths.to_pylist() if path not in done or size_and_time(path) != done[path]]


_FROM_CHECK = (
    "num_frames", "fps", "duration_seconds", "height", "width", "codec", "container", "backend", "backend_reason",
    "damaged", "size", "mtime_ns", "sha256",
)  # fmt: skip


def build_manifest(table: VideoTable, locations: pa.Array, checks: pa.Table, min_seconds: float) -> pa.Table:
    """Return the rows of the annotations with the checks of their videos.

    Args:
        locations: absolute path of each row's video.
        checks: one row per distinct path.
    """
    found = checks.take(compute.index_in(locations, value_set=checks["path"]))
    start, end = (np.full((len(table), 2), np.nan) if table.spans is None else table.spans).T
    is_usable = np.asarray(found["is_usable"])
    kind, reason = found["kind"].to_pylist(), found["reason"].to_pylist()
    duration = np.asarray(compute.fill_null(found["duration_seconds"], 0.0))
    seconds = np.where(np.isnan(start), duration, np.minimum(end, duration) - start)
    too_short = is_usable & (seconds < min_seconds)
    for row in np.flatnonzero(too_short):
        lasts = f"lasts {duration[row]:.2f} s"
        if not np.isnan(start[row]):
            lasts += f", its segment from {start[row]:g} s lasts {max(seconds[row], 0):.2f} s"
        lasts += f", --min-seconds is {min_seconds:g}"
        # an earlier problem may be the cause
        kind[row], reason[row] = (kind[row], f"{reason[row]}; {lasts}") if kind[row] else ("too short", lasts)
    columns = {
        "path": table.paths,
        **table.label_columns,
        **table.span_columns,
        "status": pa.array(np.where(is_usable & ~too_short, "ok", "failed")),
        "kind": pa.array(kind, pa.string()),
        "reason": pa.array(reason, pa.string()),
    }
    manifest = pa.table({**columns, **{name: found[name] for name in _FROM_CHECK}})
    metadata = {"root": os.path.abspath(table.root)}
    if table.class_names is not None:
        metadata["class_names"] = json.dumps(table.class_names)
    return manifest.replace_schema_metadata(metadata)


def write_manifest(manifest: pa.Table, path: Path) -> None:
    """Write the manifest as Parquet."""
    with atomic_write(path) as unfinished:
        parquet.write_table(manifest, unfinished)


def write_failures(videos: pa.Table, path: Path) -> None:
    """Write `path,kind,reason` of every video with a problem."""
    rows = wrong_rows(videos)
    with atomic_write(path) as unfinished:
        write_rows(unfinished, [("path", "kind", "reason"), *zip(*rows.values(), strict=True)])


def wrong_rows(videos: pa.Table) -> dict[str, list[str]]:
    """Return `path`, `kind`, `reason` of the videos with a problem, sorted by kind and path."""
    rows = videos.select(["path", "kind", "reason"]).filter(compute.is_valid(videos["kind"]))
    return rows.sort_by([("kind", "ascending"), ("path", "ascending")]).to_pydict()
