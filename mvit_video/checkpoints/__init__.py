"""Checkpoints of this project and of the projects that published weights: read, written, converted."""

from mvit_video.checkpoints.architecture import (
    FACTS_ASSUMED,
    FACTS_KEY,
    UnknownArchitectureError,
    infer_architecture,
    published_facts,
)
from mvit_video.checkpoints.create import build_model, create_model
from mvit_video.checkpoints.files import ARCHITECTURE_KEY, read_checkpoint
from mvit_video.checkpoints.folders import checkpoint_in
from mvit_video.checkpoints.loading import LoadReport, load_checkpoint
from mvit_video.checkpoints.saving import (
    export_checkpoint,
    export_state,
    foreign_formats,
    metadata_of,
    save_checkpoint,
)
from mvit_video.checkpoints.translation import translate

__all__ = [
    "ARCHITECTURE_KEY",
    "FACTS_ASSUMED",
    "FACTS_KEY",
    "LoadReport",
    "UnknownArchitectureError",
    "build_model",
    "checkpoint_in",
    "create_model",
    "export_checkpoint",
    "export_state",
    "foreign_formats",
    "infer_architecture",
    "load_checkpoint",
    "metadata_of",
    "published_facts",
    "read_checkpoint",
    "save_checkpoint",
    "translate",
]
