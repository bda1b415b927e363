"""What a run begins with: weights of a published or earlier model, as opposed to a run that goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from mvit_video.checkpoints import ARCHITECTURE_KEY, FACTS_KEY, load_checkpoint, metadata_of
from mvit_video.models import VideoNet
from mvit_video.models.published import TrainingFacts
from mvit_video.types import CheckpointError


@dataclass(frozen=True)
class InitFrom:
    """Weights that the net of a new run begins with.

    Attributes:
        path: a checkpoint of SlowFast, pytorchvideo, torchvision or this project, or a run folder.
        strict: refuse one in which anything but the head is missing, unexpected or does not fit.
        use_ema: take weights that were averaged over training, or refuse to; None takes what the file names as its
            model.
    """

    path: str
    strict: bool = True
    use_ema: bool | None = None


def begin_with(net: nn.Module, init_from: InitFrom) -> None:
    """Fills `net` and says in the log what was loaded; a head of other classes stays as it was initialised.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
    """
    try:
        report = load_checkpoint(net, init_from.path, strict=init_from.strict, new_head=True, use_ema=init_from.use_ema)
    except CheckpointError as error:
        hint = "set model.init_from.strict to false to load the rest" if error.hint else ""
        raise CheckpointError(f"model.init_from.path: {error.reason}", hint) from error
    rank_zero_info(f"weights from {report}")


def note_model(net: nn.Module, facts: TrainingFacts | None, checkpoint: dict[str, Any]) -> None:
    """Write what no tensor shows into a checkpoint, so that the file alone gives the net and its preprocessing.

    Args:
        facts: what the weights are trained with; None where nobody tells.
    """
    if isinstance(net, VideoNet):
        try:
            checkpoint[ARCHITECTURE_KEY] = metadata_of(net, facts=facts)
        except CheckpointError:  # a net that was changed by hand is kept without its builder's arguments
            if facts is not None:
                checkpoint[ARCHITECTURE_KEY] = {FACTS_KEY: facts.to_json()}
