"""Which videos there are and what they show."""

from mvit_video.data.annotations.reading import VIDEO_SUFFIXES, how_to_get, load_annotations
from mvit_video.data.annotations.table import Archive, VideoTable

__all__ = ["VIDEO_SUFFIXES", "Archive", "VideoTable", "how_to_get", "load_annotations"]
