"""Files of a scan: the manifest that training reads, and the list of problems."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from mvit_video.data import VideoTable
from mvit_video.jobs import atomic_write, write_rows
from mvit_video.jobs.arrow import compute

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
