"""Checkpoints: read from, and written for, the code bases that published MViT weights."""

from mvit_video.checkpoints.architecture import Architecture, describe
from mvit_video.checkpoints.contents import ARCHITECTURE_KEY, StoredState
from mvit_video.checkpoints.create import create_model, create_with_report
from mvit_video.checkpoints.files import Source, read_checkpoint
from mvit_video.checkpoints.inference import UnknownArchitectureError, architecture_of
from mvit_video.checkpoints.layouts import (
    FOREIGN_FORMATS,
    Translation,
    to_layout,
    to_pytorchvideo,
    to_torchvision,
    translate,
)
from mvit_video.checkpoints.loading import LoadReport, ShapeChange, fill, load_checkpoint
from mvit_video.checkpoints.runs import checkpoint_in
from mvit_video.checkpoints.saving import export_checkpoint, export_state, save_checkpoint
from mvit_video.checkpoints.untraced import FACTS_ASSUMED, FACTS_KEY, arguments_from, published_facts

__all__ = [
    "ARCHITECTURE_KEY",
    "FACTS_ASSUMED",
    "FACTS_KEY",
    "FOREIGN_FORMATS",
    "Architecture",
    "LoadReport",
    "ShapeChange",
    "Source",
    "StoredState",
    "Translation",
    "UnknownArchitectureError",
    "architecture_of",
    "arguments_from",
    "checkpoint_in",
    "create_model",
    "create_with_report",
    "describe",
    "export_checkpoint",
    "export_state",
    "fill",
    "load_checkpoint",
    "published_facts",
    "read_checkpoint",
    "save_checkpoint",
    "to_layout",
    "to_pytorchvideo",
    "to_torchvision",
    "translate",
]
