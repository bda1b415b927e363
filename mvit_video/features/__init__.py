"""Features of the windows of videos: extracted, stored, used.

Names are loaded when first used: to read what was stored takes no model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvit_video.features.classification import Classification, classify
    from mvit_video.features.extraction import extract
    from mvit_video.features.extractor import Extractor, ExtractSettings
    from mvit_video.features.store import FeatureTable, load_features
    from mvit_video.features.videos import Video, VideoFeatures
    from mvit_video.features.windows import Windows, WindowSpec, windows_of
    from mvit_video.features.writers import FeatureWriter, writer_for

_MODULES = {
    "Classification": "classification",
    "ExtractSettings": "extractor",
    "Extractor": "extractor",
    "FeatureTable": "store",
    "FeatureWriter": "writers",
    "Video": "videos",
    "VideoFeatures": "videos",
    "WindowSpec": "windows",
    "Windows": "windows",
    "classify": "classification",
    "extract": "extraction",
    "load_features": "store",
    "windows_of": "windows",
    "writer_for": "writers",
}

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
