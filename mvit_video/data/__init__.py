"""From annotation files and videos to batches of clips."""

from mvit_video.data.annotations import VideoTable, load_annotations
from mvit_video.data.dataset import ClipBatch, VideoDataset
from mvit_video.data.readers import VideoReader, open_video

__all__ = ["ClipBatch", "VideoDataset", "VideoReader", "VideoTable", "load_annotations", "open_video"]
