"""Features of the windows of videos: extraction, storage, use.

Names are imported when first used: reading stored features imports no model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvit_video.types import lazy_names

if TYPE_CHECKING:
    from mvit_video.features.classification import Classification, classify
    from mvit_video.features.extraction import extract
    from mvit_video.features.extractor import Extractor, ExtractSettings
    from mvit_video.features.store import FeatureTable, load_features
    from mvit_video.features.videos import Video, VideoFeatures
    from mvit_video.features.windows import Windows, WindowSpec, windows_of
    from mvit_video.features.writers import FeatureWriter, writer_for

__all__ = [
    "Classification",
    "ExtractSettings",
    "Extractor",
    "FeatureTable",
    "FeatureWriter",
    "Video",
    "VideoFeatures",
    "WindowSpec",
    "Windows",
    "classify",
    "extract",
    "load_features",
    "windows_of",
    "writer_for",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "classification": "Classification classify",
        "extraction": "extract",
        "extractor": "ExtractSettings Extractor",
        "store": "FeatureTable load_features",
        "videos": "Video VideoFeatures",
        "windows": "WindowSpec Windows windows_of",
        "writers": "FeatureWriter writer_for",
    },
)
