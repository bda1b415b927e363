"""A net before its run: a head for the classes of the data, and the weights of an earlier model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from mvit_video.checkpoints import ARCHITECTURE_KEY, FACTS_KEY, load_checkpoint, metadata_of
from mvit_video.models import VideoNet
from mvit_video.models.published import TrainingFacts
from mvit_video.training.compatibility import check_data_fit_net
from mvit_video.types import CheckpointError, ConfigError


@dataclass(frozen=True)
class InitFrom:
    """Initial weights of a new run; a resumed run takes those of its checkpoint.

    Attributes:
        path: checkpoint of SlowFast, pytorchvideo, torchvision or this project, or a run folder.
        strict: refuse a checkpoint in which anything but the head is missing, unexpected or of another shape.
        use_ema: take weights averaged over training (true) or not (false); None takes the ones that the file calls
            its model.
    """

    path: str
    strict: bool = True
    use_ema: bool | None = None


def prepare_net(net: Any, data: Any, init_from: InitFrom | None, *, multi_label: bool, stage: str) -> None:
    """Make a net ready for its data, once before a run: add a missing head, check the sizes, load initial weights.

    Call it before FSDP shards the net, whose shards cannot take complete weights.

    Args:
        data: data module after its `setup`; None where there is none.
        init_from: None keeps the weights of the net, as for a checkpoint that is loaded later.
        stage: "fit", "validate", "test" or "predict".

    Raises:
        ConfigError: data and net differ.
        CheckpointError: the weights cannot be read or do not fit.
    """
    if data is not None:
        if net.num_classes == 0:
            if not data.num_classes:
                raise ConfigError(
                    "model.net.num_classes=0 takes the classes of the data, which has none: set data.classes.names"
                )
            net.reset_classifier(data.num_classes)
            names = f": {', '.join(data.class_names)}" if data.class_names is not None else ""
            rank_zero_info(f"head for the {data.num_classes} classes of the data{names}")
        check_data_fit_net(data, net, multi_label=multi_label, stage=stage)
    if init_from is not None:
        _load(net, init_from)


def _load(net: nn.Module, init_from: InitFrom) -> None:
    """Load weights and log which; a head of other classes keeps its random weights."""
    try:
        report = load_checkpoint(net, init_from.path, strict=init_from.strict, new_head=True, use_ema=init_from.use_ema)
    except CheckpointError as error:
        hint = "set model.init_from.strict to false to load the rest" if error.hint else ""
        raise CheckpointError(f"model.init_from.path: {error.reason}", hint) from error
    rank_zero_info(f"weights from {report}")


def note_model(net: nn.Module, data: Any, checkpoint: dict[str, Any], *, multi_label: bool) -> None:
    """Add to a checkpoint how the net is built and what its clips look like, so that the file needs no config.

    Args:
        data: data module; the clips are left out where it states none.
    """
    if not isinstance(net, VideoNet):
        return
    view = getattr(data, "train_view", None)
    activation = "sigmoid" if multi_label else "softmax"
    facts = None
    if view is not None:
        facts = TrainingFacts(view.normalize.mean, view.normalize.std, view.clip.sampling_rate, activation)
    try:
        checkpoint[ARCHITECTURE_KEY] = metadata_of(net, facts=facts)
    except CheckpointError:  # a net changed by hand is saved without the arguments of its builder
        if facts is not None:
            checkpoint[ARCHITECTURE_KEY] = {FACTS_KEY: facts.to_json()}
