"""Video understanding with Multiscale Vision Transformers.

Names are loaded when first used, so that `import mvit_video` and the command line's help stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mvit_video.types import (
    THW,
    AnnotationError,
    CheckpointError,
    ClipSpec,
    ConfigError,
    MVitVideoError,
    TrainingError,
    VideoDecodeError,
    ViewSpec,
)

if TYPE_CHECKING:
    from mvit_video.checkpoints import LoadReport, create_model, export_checkpoint, load_checkpoint, save_checkpoint
    from mvit_video.data.readers import VideoReader, open_video
    from mvit_video.evaluation import Evaluation, evaluate
    from mvit_video.features import Classification, FeatureTable, VideoFeatures, classify, extract, load_features
    from mvit_video.models import list_models
    from mvit_video.runs import Preprocessing, TrainedModel, load_model

__version__ = "0.1.0"

_LAZY = {
    "Classification": "mvit_video.features",
    "Evaluation": "mvit_video.evaluation",
    "FeatureTable": "mvit_video.features",
    "LoadReport": "mvit_video.checkpoints",
    "Preprocessing": "mvit_video.runs",
    "TrainedModel": "mvit_video.runs",
    "VideoFeatures": "mvit_video.features",
    "VideoReader": "mvit_video.data.readers",
    "classify": "mvit_video.features",
    "create_model": "mvit_video.checkpoints",
    "evaluate": "mvit_video.evaluation",
    "export_checkpoint": "mvit_video.checkpoints",
    "extract": "mvit_video.features",
    "list_models": "mvit_video.models",
    "load_checkpoint": "mvit_video.checkpoints",
    "load_features": "mvit_video.features",
    "load_model": "mvit_video.runs",
    "open_video": "mvit_video.data.readers",
    "save_checkpoint": "mvit_video.checkpoints",
}

__all__ = [
    "THW",
    "AnnotationError",
    "CheckpointError",
    "Classification",
    "ClipSpec",
    "ConfigError",
    "Evaluation",
    "FeatureTable",
    "LoadReport",
    "MVitVideoError",
    "Preprocessing",
    "TrainedModel",
    "TrainingError",
    "VideoDecodeError",
    "VideoFeatures",
    "VideoReader",
    "ViewSpec",
    "classify",
    "create_model",
    "evaluate",
    "export_checkpoint",
    "extract",
    "list_models",
    "load_checkpoint",
    "load_features",
    "load_model",
    "open_video",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
