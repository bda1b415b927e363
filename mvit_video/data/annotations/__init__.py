"""Which videos there are and what they show."""

from mvit_video.data.annotations.reading import load_annotations, may_exist
from mvit_video.data.table.files import VIDEO_SUFFIXES
from mvit_video.data.table.missing import how_to_get
from mvit_video.data.table.video_table import Archive, VideoTable

__all__ = ["VIDEO_SUFFIXES", "Archive", "VideoTable", "how_to_get", "load_annotations", "may_exist"]
