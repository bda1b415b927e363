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
    from mvit_video.models import list_models
    from mvit_video.runs import TrainedModel, load_model

__version__ = "0.1.0"

_LAZY = {
    "LoadReport": "mvit_video.checkpoints",
    "create_model": "mvit_video.checkpoints",
    "export_checkpoint": "mvit_video.checkpoints",
    "list_models": "mvit_video.models",
    "load_checkpoint": "mvit_video.checkpoints",
    "load_model": "mvit_video.runs",
    "open_video": "mvit_video.data.readers",
    "save_checkpoint": "mvit_video.checkpoints",
    "TrainedModel": "mvit_video.runs",
    "VideoReader": "mvit_video.data.readers",
}

__all__ = [
    "THW",
    "AnnotationError",
    "CheckpointError",
    "ClipSpec",
    "ConfigError",
    "LoadReport",
    "MVitVideoError",
    "TrainedModel",
    "TrainingError",
    "VideoDecodeError",
    "VideoReader",
    "ViewSpec",
    "create_model",
    "export_checkpoint",
    "list_models",
    "load_checkpoint",
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
