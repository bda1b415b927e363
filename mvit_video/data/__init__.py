"""From annotation files and videos to batches of clips.

Names are loaded when first used: reading a video takes a third of the time to import that training takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvit_video.data.annotations import load_annotations
    from mvit_video.data.dataset import ClipBatch, VideoDataset
    from mvit_video.data.readers import VideoReader, open_video
    from mvit_video.data.sources import find_videos
    from mvit_video.data.table.video_table import VideoTable

_LAZY = {
    "ClipBatch": "mvit_video.data.dataset",
    "VideoDataset": "mvit_video.data.dataset",
    "VideoReader": "mvit_video.data.readers",
    "VideoTable": "mvit_video.data.table.video_table",
    "find_videos": "mvit_video.data.sources",
    "load_annotations": "mvit_video.data.annotations",
    "open_video": "mvit_video.data.readers",
}

__all__ = ["ClipBatch", "VideoDataset", "VideoReader", "VideoTable", "find_videos", "load_annotations", "open_video"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
