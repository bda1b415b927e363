"""What jobs over a whole data set ask of it and of their output folder before they begin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvit_video.data.table.files import IMAGE_SUFFIXES
from mvit_video.data.table.video_table import VideoTable
from mvit_video.jobs.arrow import first, matches
from mvit_video.types import ConfigError

_PICTURE = rf"(?i)\.(?:{'|'.join(suffix[1:] for suffix in sorted(IMAGE_SUFFIXES))})$"


def require_videos(table: VideoTable, verb: str) -> None:
    """Refuses a data set of pictures, which training reads but a job over videos does not.

    Raises:
        ConfigError: names the verb and the first picture.
    """
    picture = first(matches(table.paths, _PICTURE))
    if picture is not None:
        raise ConfigError(
            f"{verb} is for videos, {table.path(picture)!r} is a picture; pictures are trained on as they are"
        )


def require_outside(source: str, out: str) -> None:
    """Refuses an output folder inside a folder of videos, where it would be taken for one of the videos' folders.

    Args:
        source: annotations of any kind; only a folder can hold the output.
        out: folder or URL.

    Raises:
        ConfigError: names both folders.
    """
    folder = Path(source)
    if "://" not in out and folder.is_dir() and Path(out).resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"--out {out} lies in the folder {source} of the sources; choose one outside")


def require_same_kind(tables: Mapping[Any, VideoTable]) -> None:
    """Refuses splits of a data set that give names of classes in one and numbers in another.

    Args:
        tables: by the name of the split.

    Raises:
        ConfigError: names both splits.
    """
    named = [split for split, table in tables.items() if table.class_names is not None]
    numbered = [split for split in tables if split not in named]
    if named and numbered:
        raise ConfigError(f"data.{named[0]} gives class names but data.{numbered[0]} gives class numbers; use one kind")


def with_lists(tables: Mapping[Any, VideoTable]) -> dict[Any, VideoTable]:
    """Return the tables of splits with lists of labels in all where one has some: one label is a list of one.

    Raises:
        ConfigError: a label that is unknown stands beside lists.
    """
    if not any(table.is_multilabel for table in tables.values()):
        return dict(tables)
    found: dict[Any, VideoTable] = {}
    for split, table in tables.items():
        keeps = table.is_multilabel or (split == "predict" and table.is_unlabelled)
        unknown = (table.labels < 0).nonzero()[0]
        if unknown.size and not keeps:
            raise ConfigError(
                f"data.{split}: {table.path(int(unknown[0]))} has label -1 (unknown), which cannot stand beside lists "
                "of labels; give its labels, or [] for none"
            )
        found[split] = table if keeps else table.as_multilabel()
    return found
