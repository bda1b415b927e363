"""Models by name: every builder function of this package is a model that YAML and `create_model` can name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from mvit_video.models.alternet import (
    AlterNet,
    alternet,
    alternet_18,
    alternet_34,
    alternet_50,
    alternet_101,
    alternet_152,
)
from mvit_video.models.architecture import BlockSpec, Patch, Pooling, block_table
from mvit_video.models.checkpoints import (
    FACTS_ASSUMED,
    LoadReport,
    Source,
    architecture_of,
    arguments_from,
    fill,
    read_checkpoint,
    translate,
)
from mvit_video.models.cpvt import (
    cpvt,
    cpvt_b,
    cpvt_b_gap,
    cpvt_b_plus,
    cpvt_s,
    cpvt_s_gap,
    cpvt_s_plus,
    cpvt_ti,
    cpvt_ti_gap,
    cpvt_ti_plus,
)
from mvit_video.models.mvit import (
    MViT,
    mvit,
    mvit_b24_32x3,
    mvit_b_16,
    mvit_b_16x4,
    mvit_b_32x3,
    mvit_b_64x3,
    mvit_s_16x4,
)
from mvit_video.models.mvitv2 import (
    mvitv2,
    mvitv2_b,
    mvitv2_b_32x3,
    mvitv2_l,
    mvitv2_l_40x3,
    mvitv2_s,
    mvitv2_s_16x4,
    mvitv2_t,
)
from mvit_video.models.net import Features, VideoNet
from mvit_video.models.position import Position, PositionKind
from mvit_video.models.pvt import PVT, Pyramid
from mvit_video.models.pvt_variants import (
    pvt,
    pvt_huge,
    pvt_large,
    pvt_medium,
    pvt_small,
    pvt_tiny,
    pvt_v2,
    pvt_v2_b0,
    pvt_v2_b1,
    pvt_v2_b2,
    pvt_v2_b2_li,
    pvt_v2_b3,
    pvt_v2_b4,
    pvt_v2_b5,
    twins_pcpvt_base,
    twins_pcpvt_large,
    twins_pcpvt_small,
)
from mvit_video.types import ConfigError

_log = logging.getLogger(__name__)
_OF_OTHER_PACKAGES = {"pretrained", "weights"}  # arguments by which these download weights

_BUILDERS: dict[str, Callable[..., VideoNet]] = {
    builder.__name__: builder
    for builder in (
        mvit_b_16x4,
        mvit_b_32x3,
        mvit_b_64x3,
        mvit_b24_32x3,
        mvit_s_16x4,
        mvit_b_16,
        mvitv2_s_16x4,
        mvitv2_b_32x3,
        mvitv2_l_40x3,
        mvitv2_t,
        mvitv2_s,
        mvitv2_b,
        mvitv2_l,
        pvt_tiny,
        pvt_small,
        pvt_medium,
        pvt_large,
        pvt_huge,
        pvt_v2_b0,
        pvt_v2_b1,
        pvt_v2_b2,
        pvt_v2_b2_li,
        pvt_v2_b3,
        pvt_v2_b4,
        pvt_v2_b5,
        twins_pcpvt_small,
        twins_pcpvt_base,
        twins_pcpvt_large,
        cpvt_ti,
        cpvt_ti_plus,
        cpvt_ti_gap,
        cpvt_s,
        cpvt_s_plus,
        cpvt_s_gap,
        cpvt_b,
        cpvt_b_plus,
        cpvt_b_gap,
        alternet_18,
        alternet_34,
        alternet_50,
        alternet_101,
        alternet_152,
    )
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models, sorted, that match a shell pattern such as `mvit_b*`."""
    return sorted(name for name in _BUILDERS if fnmatchcase(name, pattern))


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
    elif name in _BUILDERS:
        builder = _BUILDERS[name]
        if found is not None and "head.projection.bias" in found.tensors:
            arguments.setdefault("num_classes", len(found.tensors["head.projection.bias"]))
    else:
        if Path(name).exists():
            raise ConfigError(f"{name} is the path of a file, not the name of a model; give it as checkpoint=")
        near = get_close_matches(name, _BUILDERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"mv.list_models() names them: {', '.join(list_models())}"
        raise ConfigError(f"there is no model {name!r}; {hint}")
    try:
        if found is not None and name in _BUILDERS:
            with torch.device("meta"):
                arguments |= arguments_from(found, builder(**arguments), chosen)
        model = builder(**arguments)
    except TypeError as error:
        raise ConfigError(f"model {name}: {error}") from error
    if found is None:
        return model, None
    return model, fill(model, found, new_head="num_classes" in chosen, origin=origin, chosen=chosen)


__all__ = [
    "PVT",
    "AlterNet",
    "BlockSpec",
    "Features",
    "MViT",
    "Patch",
    "Pooling",
    "Position",
    "PositionKind",
    "Pyramid",
    "VideoNet",
    "alternet",
    "alternet_18",
    "alternet_34",
    "alternet_50",
    "alternet_101",
    "alternet_152",
    "block_table",
    "cpvt",
    "cpvt_b",
    "cpvt_b_gap",
    "cpvt_b_plus",
    "cpvt_s",
    "cpvt_s_gap",
    "cpvt_s_plus",
    "cpvt_ti",
    "cpvt_ti_gap",
    "cpvt_ti_plus",
    "create_model",
    "create_with_report",
    "list_models",
    "mvit",
    "mvit_b24_32x3",
    "mvit_b_16",
    "mvit_b_16x4",
    "mvit_b_32x3",
    "mvit_b_64x3",
    "mvit_s_16x4",
    "mvitv2",
    "mvitv2_b",
    "mvitv2_b_32x3",
    "mvitv2_l",
    "mvitv2_l_40x3",
    "mvitv2_s",
    "mvitv2_s_16x4",
    "mvitv2_t",
    "pvt",
    "pvt_huge",
    "pvt_large",
    "pvt_medium",
    "pvt_small",
    "pvt_tiny",
    "pvt_v2",
    "pvt_v2_b0",
    "pvt_v2_b1",
    "pvt_v2_b2",
    "pvt_v2_b2_li",
    "pvt_v2_b3",
    "pvt_v2_b4",
    "pvt_v2_b5",
    "twins_pcpvt_base",
    "twins_pcpvt_large",
    "twins_pcpvt_small",
]
