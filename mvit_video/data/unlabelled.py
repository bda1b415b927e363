"""Folders of videos that need no labels."""

from __future__ import annotations

from collections.abc import Sequence

from mvit_video.curation.scanning import list_videos
from mvit_video.data.table.classes import given_names
from mvit_video.data.table.video_table import VideoTable


def load_folder(folder: str, class_names: Sequence[str] | str | None = None) -> VideoTable:
    """Every video below a folder, labelled where it holds one folder per class, and all of these have a name.

    Args:
        class_names: name of each class, or a file that holds them; None takes any.

    Raises:
        AnnotationError: there is no video.
    """
    table, _ = list_videos(folder)
    if class_names is None:
        return table
    known = given_names(class_names).names
    if table.class_names is not None and set(table.class_names) <= set(known):
        return table.with_classes(known)
    return table.without_labels(known)
