"""Checkpoints of other code bases: what their keys are called."""

from mvit_video.models.checkpoints.layouts import to_pytorchvideo, to_torchvision

__all__ = ["to_pytorchvideo", "to_torchvision"]
