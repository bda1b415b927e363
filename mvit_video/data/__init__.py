"""From annotation files and videos to batches of clips.

Names are loaded when first used: reading a video takes a third of the time to import that training takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvit_video.types import lazy_names

if TYPE_CHECKING:
    from mvit_video.data.annotations import load_annotations
    from mvit_video.data.dataset import ClipBatch, VideoDataset
    from mvit_video.data.readers import VideoReader, open_video
    from mvit_video.data.sources import find_videos
    from mvit_video.data.table.video_table import VideoTable

__all__ = ["ClipBatch", "VideoDataset", "VideoReader", "VideoTable", "find_videos", "load_annotations", "open_video"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "annotations": "load_annotations",
        "dataset": "ClipBatch VideoDataset",
        "readers": "VideoReader open_video",
        "sources": "find_videos",
        "table.video_table": "VideoTable",
    },
)
