"""Part files of features, and the videos in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mvit_video.jobs import Folder
from mvit_video.jobs.folder import PART_NAME


class Kept(NamedTuple):
    """Content of a folder of features when a run begins.

    Attributes:
        videos: names of the videos with complete features.
        damaged: new places of files that could not be read.
    """

    videos: set[str]
    damaged: list[str]


class Damaged(Exception):
    """A part file is truncated or damaged."""


def keep_only_listed(
    folder: Folder,
    suffix: str,
    listed: Mapping[str, int],
    contents: Callable[[str], dict[str, int] | None],
    rewrite: Callable[[str, set[str]], None],
) -> Kept:
    """Remove features from part files; see `FeatureWriter.keep_only`.

    Args:
        contents: returns the number of windows of each video in a part, None for a file of another extraction; raises
            `Damaged`.
        rewrite: keeps only some videos in a part.
    """
    folder.remove_unfinished()
    kept, seen, damaged = set[str](), set[str](), list[str]()
    for part in folder.names(f"part-*.{suffix}")[::-1]:
        try:
            found = contents(part)
        except Damaged:
            if PART_NAME.fullmatch(part):
                damaged.append(folder.quarantine(part))
            continue
        if found is None:
            continue
        new = {video for video, num_windows in found.items() if listed.get(video) == num_windows} - seen
        kept, seen = kept | new, seen | found.keys()
        if not new:
            folder.remove(part)
        elif new != found.keys():
            rewrite(part, new)
    return Kept(kept, damaged)
