"""Run folders and what they hold: settings, checkpoints, trained models, predictions, the record.

Names are loaded when first used: reading what a test left needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvit_video.runs.predictions import Predictions, load_predictions, save_predictions
    from mvit_video.runs.trained_model import Preprocessing, TrainedModel, load_model

_MODULES = {
    "Predictions": "predictions",
    "Preprocessing": "trained_model",
    "TrainedModel": "trained_model",
    "load_model": "trained_model",
    "load_predictions": "predictions",
    "save_predictions": "predictions",
}

__all__ = ["Predictions", "Preprocessing", "TrainedModel", "load_model", "load_predictions", "save_predictions"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
