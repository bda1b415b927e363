"""Features of the windows of videos: extracted, stored, used."""

from mvit_video.features.extractor import Extractor, ExtractSettings
from mvit_video.features.videos import Video, VideoFeatures
from mvit_video.features.windows import Windows, WindowSpec, windows_of
from mvit_video.features.writers import FeatureWriter, writer_for

__all__ = [
    "ExtractSettings",
    "Extractor",
    "FeatureWriter",
    "Video",
    "VideoFeatures",
    "WindowSpec",
    "Windows",
    "windows_of",
    "writer_for",
]
