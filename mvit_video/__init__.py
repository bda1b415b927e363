"""Video understanding with Multiscale Vision Transformers.

Names are loaded when first used, so that `import mvit_video` and the command line's help stay quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    lazy_names,
)

if TYPE_CHECKING:
    from mvit_video.checkpoints import LoadReport, create_model, export_checkpoint, load_checkpoint, save_checkpoint
    from mvit_video.data.readers import VideoReader, open_video
    from mvit_video.evaluation import Evaluation, evaluate
    from mvit_video.features import Classification, FeatureTable, VideoFeatures, classify, extract, load_features
    from mvit_video.models import list_models
    from mvit_video.runs import Preprocessing, TrainedModel, load_model

__version__ = "0.1.0"

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "checkpoints": "LoadReport create_model export_checkpoint load_checkpoint save_checkpoint",
        "data.readers": "VideoReader open_video",
        "evaluation": "Evaluation evaluate",
        "features": "Classification FeatureTable VideoFeatures classify extract load_features",
        "models": "list_models",
        "runs": "Preprocessing TrainedModel load_model",
    },
)
