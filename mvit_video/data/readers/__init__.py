"""Frames of a video by index: frame i is the i-th in presentation order, whichever library decodes."""

from mvit_video.data.readers.index_cache import IndexCache
from mvit_video.data.readers.reader import VideoReader, open_video
from mvit_video.types import Backend

__all__ = ["Backend", "IndexCache", "VideoReader", "open_video"]
