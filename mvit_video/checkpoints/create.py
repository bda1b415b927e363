"""Models by name, with random weights or those of a checkpoint."""

from __future__ import annotations

import logging
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from mvit_video.checkpoints.files import Source, read_checkpoint
from mvit_video.checkpoints.inference import architecture_of
from mvit_video.checkpoints.layouts import translate
from mvit_video.checkpoints.loading import LoadReport, fill
from mvit_video.checkpoints.untraced import FACTS_ASSUMED, arguments_from
from mvit_video.models import BUILDERS, VideoNet, list_models
from mvit_video.nn import tune_for_cpu
from mvit_video.types import ConfigError

_log = logging.getLogger(__name__)
_OF_OTHER_PACKAGES = {"pretrained", "weights"}  # arguments by which these download weights


def create_model(
    name: str | None = None,
    *,
    num_classes: int | None = None,
    num_frames: int | None = None,
    crop_size: int | None = None,
    checkpoint: Source | None = None,
    use_ema: bool | None = None,
    **overrides: Any,
) -> VideoNet:
    """Build a model by name, with random weights or those of a checkpoint; without a name, the one a checkpoint holds.

    Its layers are tuned for inference on a CPU, see `nn.tune_for_cpu`; on another device they do the same as ever.

    Args:
        num_classes: of the head; None takes the checkpoint's, or else the model's own. A number other than the
            checkpoint's makes a new head, which the log says.
        num_frames: frames of a clip; None takes the model's own.
        crop_size: height and width of a clip in pixels; None takes the model's own.
        checkpoint: what `load_checkpoint` takes; loaded strictly.
        use_ema: as `load_checkpoint` takes it.
        **overrides: other arguments of the builder function.

    Raises:
        ConfigError: no model has this name, or the builder has no such argument.
        CheckpointError: the checkpoint cannot be read, does not fit, or does not tell what it holds.
    """
    stored = None if checkpoint is None else read_checkpoint(checkpoint, use_ema=use_ema)
    model, report = create_with_report(
        name,
        num_classes=num_classes,
        num_frames=num_frames,
        crop_size=crop_size,
        checkpoint=stored,
        **overrides,
    )
    if stored is not None and report is not None:
        unsure = report.head_is_new or report.assumed.keys() - {FACTS_ASSUMED} or (stored.notes and use_ema is None)
        _log.log(logging.WARNING if unsure else logging.INFO, "%s", report)
    return model


def create_with_report(
    name: str | None = None, *, checkpoint: Source | None = None, use_ema: bool | None = None, **arguments: Any
) -> tuple[VideoNet, LoadReport | None]:
    """Build a model as `create_model` does, and return what came of loading the checkpoint; None without one."""
    sizes = {key: arguments.pop(key, None) for key in ("num_classes", "num_frames", "crop_size")}
    arguments |= {key: value for key, value in sizes.items() if value is not None}
    found = None if checkpoint is None else translate(read_checkpoint(checkpoint, use_ema=use_ema))
    if habit := arguments.keys() & _OF_OTHER_PACKAGES:
        raise ConfigError(
            f"model {name}: no weights come with the package, so there is no {min(habit)}=; give checkpoint=PATH of a "
            "file that you downloaded (docs/checkpoints.md)"
        )
    chosen, origin = set(arguments), "as the model has it"
    if name is None:
        if found is None:
            raise ConfigError("create_model needs a name, a checkpoint, or both")
        architecture = architecture_of(found, num_frames=sizes["num_frames"], crop_size=sizes["crop_size"])
        name, builder, origin = f"of {found.name}", architecture.build, "as published"
        found.notes.extend(architecture.notes)
    elif name in BUILDERS:
        builder = BUILDERS[name]
        if found is not None and "head.projection.bias" in found.tensors:
            arguments.setdefault("num_classes", len(found.tensors["head.projection.bias"]))
    else:
        if Path(name).exists():
            raise ConfigError(f"{name} is the path of a file, not the name of a model; give it as checkpoint=")
        near = get_close_matches(name, BUILDERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"mv.list_models() names them: {', '.join(list_models())}"
        raise ConfigError(f"there is no model {name!r}; {hint}")
    try:
        if found is not None and name in BUILDERS:
            with torch.device("meta"):
                arguments |= arguments_from(found, builder(**arguments), chosen)
        model = tune_for_cpu(builder(**arguments))
    except TypeError as error:
        raise ConfigError(f"model {name}: {error}") from error
    if found is None:
        return model, None
    return model, fill(model, found, new_head="num_classes" in chosen, origin=origin, chosen=chosen)
