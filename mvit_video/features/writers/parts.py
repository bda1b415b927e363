"""Part files of features: which videos each holds, and which of them stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mvit_video.jobs import Folder
from mvit_video.jobs.ledger import PART_NAME


class Kept(NamedTuple):
    """What a folder of features holds when a run begins.

    Attributes:
        videos: names of those whose features are complete.
        damaged: files that could not be read, where they are now.
    """

    videos: set[str]
    damaged: list[str]


class Damaged(Exception):
    """A part file cannot be read, as it is cut off or spoilt."""


def keep_only_listed(
    folder: Folder,
    suffix: str,
    listed: Mapping[str, int],
    contents: Callable[[str], dict[str, int] | None],
    rewrite: Callable[[str, set[str]], None],
) -> Kept:
    """Remove features from part files; see `FeatureWriter.keep_only`.

    Args:
        contents: number of windows of each video in a part; None of a file that is not of this extraction. Raises
            `Damaged`.
        rewrite: leaves some videos only in a part.
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
