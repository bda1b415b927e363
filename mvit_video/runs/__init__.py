"""Run folders: settings, checkpoints, trained models, predictions, the record.

Names are imported when first used: reading predictions imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvit_video.types import lazy_names

if TYPE_CHECKING:
    from mvit_video.runs.predictions import Predictions, load_predictions, save_predictions
    from mvit_video.runs.trained_model import Preprocessing, TrainedModel, load_model

__all__ = ["Predictions", "Preprocessing", "TrainedModel", "load_model", "load_predictions", "save_predictions"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "predictions": "Predictions load_predictions save_predictions",
        "trained_model": "Preprocessing TrainedModel load_model",
    },
)
