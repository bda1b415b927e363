"""Load a checkpoint of any known layout into a model, with a report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mvit_video.checkpoints.architecture import compare_untraced
from mvit_video.checkpoints.files import Source, read_checkpoint
from mvit_video.checkpoints.resizing import INFLATIONS, convert_positions, resize
from mvit_video.checkpoints.translation import Translation, translate
from mvit_video.models.published import TrainingFacts
from mvit_video.types import CheckpointError, ConfigError, printable

_HEAD = "head."


class ShapeChange(NamedTuple):
    """Tensor with another shape in the checkpoint than in the model, and what was done."""

    key: str
    found: tuple[int, ...]
    expected: tuple[int, ...]
    how: str

    def __str__(self) -> str:
        return f"{self.key} {self.found} -> {self.expected}, {self.how}"


@dataclass
class LoadReport:
    """Result of loading a checkpoint; it prints as a few lines.

    Attributes:
        source: the file, or another name.
        format: lightning or mvit_video for files of this project, else the project, such as slowfast.
        loaded: tensors of the model that were loaded.
        missing: tensors of the model that the checkpoint does not have; they keep their values.
        unexpected: tensors of the checkpoint that the model does not have.
        resized: tensors that were loaded with a change of shape.
        mismatched: tensors that were not loaded because their shape does not fit.
        non_finite: loaded tensors that hold NaN or infinity.
        conflicts: arguments that differ in the file and the model, and that tensors do not show.
        assumed: by argument, a line for what neither the tensors nor the file show.
        facts: facts of the training in the file, or as published where `assumed` says so.
        notes: what else was done.
        head_is_new: the model kept its own head.

    Examples:
        >>> model = mv.load_model("runs/demo/version_0")
        >>> model.report.missing, model.report.unexpected
        ([], [])
    """

    source: str
    format: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    resized: list[ShapeChange] = field(default_factory=list)
    mismatched: list[ShapeChange] = field(default_factory=list)
    non_finite: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    assumed: dict[str, str] = field(default_factory=dict)
    facts: TrainingFacts | None = None
    notes: list[str] = field(default_factory=list)
    head_is_new: bool = False

    def __str__(self) -> str:
        lines = [
            f"{printable(self.source)} ({self.format}): {len(self.loaded)} tensors loaded, "
            f"{len(self.missing)} missing, {len(self.unexpected)} unexpected, {len(self.resized)} resized"
        ]
        for title in ("missing", "unexpected", "mismatched", "non_finite", "resized", "conflicts"):
            if found := getattr(self, title):
                lines.append(f"  {title.replace('_', '-')}: {printable(_first(found))}")
        return "\n".join(lines + [f"  {note}" for note in (*self.notes, *self.assumed.values())])

    @property
    def faults(self) -> list[str]:
        """Reasons for a strict load to refuse."""
        faults = [
            f"{len(found)} {what} (first {found[0]})"
            for found, what in (
                (self.missing, "missing"),
                (self.unexpected, "unexpected"),
                (self.non_finite, "with NaN or infinity"),
            )
            if found
        ]
        if self.mismatched:
            key, found, expected, _ = self.mismatched[0]
            faults.append(f"{len(self.mismatched)} of another shape (first {key} {found}, the model has {expected})")
        return faults + self.conflicts


def load_checkpoint(
    model: nn.Module,
    source: Source,
    strict: bool = True,
    *,
    inflate: str = "centre",
    new_head: bool = False,
    use_ema: bool | None = None,
) -> LoadReport:
    """Load the weights of a checkpoint of any known layout into a model: see docs/reference/checkpoints.md.

    Positions of another size are resized, and kernels of images are inflated for clips; the report lists them. A
    refused load does not change the model.

    Args:
        source: path, or the state dict in such a file.
        strict: refuse a checkpoint with missing, unexpected, non-finite or mismatched tensors.
        inflate: `centre` puts a kernel of images on the middle frame, `average` an equal part on each frame.
        new_head: keep the model's own head if the checkpoint has another number of classes, or no head.
        use_ema: load weights averaged over training (`model_ema`, `state_dict_ema`, ...), or refuse to; None loads the
            weights that the file names as the model's, and the report lists others.

    Returns: names of tensors that were loaded, missing, unexpected, resized.

    Raises:
        CheckpointError: the file cannot be read, or `strict` refuses it.

    Examples:
        >>> net = mv.load_model("runs/demo/version_0").net
        >>> mv.load_checkpoint(net, "runs/demo/version_0/checkpoints/best.ckpt").missing
        []

    Source: resizing as in SlowFast's `load_checkpoint`; inflation on the middle frame and positions in time of zero
    as in MViTv2 (arXiv:2112.01526); tests/checkpoints/test_loading.py.
    """
    found = translate(read_checkpoint(source, use_ema=use_ema), model)
    return fill(model, found, strict=strict, inflate=inflate, new_head=new_head)


def fill(
    model: nn.Module,
    checkpoint: Translation,
    *,
    strict: bool = True,
    inflate: str = "centre",
    new_head: bool = False,
    origin: str = "as the model has it",
    chosen: Collection[str] = (),
) -> LoadReport:
    """Load a translated checkpoint into a model; see `load_checkpoint`.

    Args:
        origin: source of the model's arguments that tensors do not show, for the report.
        chosen: arguments of the caller, which may differ from the file's.
    """
    if inflate not in INFLATIONS:
        raise ConfigError(f"inflate must be one of {', '.join(INFLATIONS)}, got {inflate!r}")
    own = model.state_dict()
    report = LoadReport(checkpoint.name, checkpoint.format, unexpected=list(checkpoint.unexpected))
    report.notes.extend(checkpoint.notes)
    tensors = dict(checkpoint.tensors)
    if note := convert_positions(tensors, set(own)):
        report.notes.append(note)
    kept = _keep_head(tensors, own, report) if new_head else set()
    untraced = compare_untraced(model, checkpoint, origin, chosen)
    report.notes.extend(untraced.notes)
    report.assumed, report.facts = untraced.assumed, untraced.facts
    if report.head_is_new or not strict:
        report.notes.extend(untraced.conflicts.values())
    else:
        report.conflicts = list(untraced.conflicts.values())
    values = {}
    modules = dict(model.named_modules())
    for key, tensor in tensors.items():
        if key not in own:
            report.unexpected.append(checkpoint.names.get(key, key))
            continue
        expected = tuple(own[key].shape)
        if tensor.is_floating_point() != own[key].is_floating_point():  # a count of batches is an integer
            report.mismatched.append(ShapeChange(key, tuple(tensor.shape), expected, f"{tensor.dtype}"))
        elif tensor.shape == expected:
            values[key] = tensor
        elif resized := resize(key, tensor, expected, modules.get(key.rpartition(".")[0]), inflate):
            values[key], how = resized
            report.resized.append(ShapeChange(key, tuple(tensor.shape), expected, how))
        else:
            report.mismatched.append(ShapeChange(key, tuple(tensor.shape), expected, "not loaded"))
    _fill_times(tensors, values, own, report)
    report.loaded = list(values)
    report.missing = [key for key in own if key not in tensors and key not in values and key not in kept]
    report.non_finite = [key for key, value in values.items() if not value.is_meta and not value.isfinite().all()]
    if strict and report.faults:
        raise _refusal(report, own)
    _copy(own, values, report)
    return report


def _keep_head(tensors: dict[str, Tensor], own: dict[str, Tensor], report: LoadReport) -> set[str]:
    """Remove a head of other classes from `tensors`; return the names in the model that need no tensor."""
    theirs, ours = tensors.get("head.projection.weight"), own.get("head.projection.weight")
    if theirs is None:
        own_head = {key for key in own if key.startswith(_HEAD) and key not in tensors}
        if own_head:
            report.head_is_new = True
            report.notes.append("the head is newly initialised: the checkpoint has none")
        return own_head
    if ours is not None and ours.shape[0] == theirs.shape[0]:
        return set()
    for key in [key for key in tensors if key.startswith(_HEAD)]:
        del tensors[key]
    if ours is None:
        report.notes.append(f"the head of {theirs.shape[0]} classes is ignored: the model has none")
        return set()
    report.head_is_new = True
    report.notes.append(
        f"the head is newly initialised: the checkpoint has {theirs.shape[0]} classes, the model {ours.shape[0]}"
    )
    return {key for key in own if key.startswith(_HEAD)}


def _fill_times(
    tensors: dict[str, Tensor], values: dict[str, Tensor], own: dict[str, Tensor], report: LoadReport
) -> None:
    """Zero the relative positions in time, which a checkpoint of images does not have."""
    times = [key for key in own if key.endswith(".rel_pos.t") and key not in tensors]
    kernel = tensors.get("patch_embed.proj.weight")
    if times and kernel is not None and kernel.ndim == 5 and kernel.shape[2] == 1:
        values.update({key: torch.zeros_like(own[key]) for key in times})
        report.notes.append(f"{len(times)} tables of relative positions in time are zero: the checkpoint is of images")


@torch.no_grad()
def _copy(own: dict[str, Tensor], values: dict[str, Tensor], report: LoadReport) -> None:
    if any(own[key].is_meta != value.is_meta for key, value in values.items()):
        raise CheckpointError(
            f"{report.source}: model or checkpoint is on the device meta; model.to_empty(device=...) gives it storage"
        )
    dtypes = {(value.dtype, own[key].dtype) for key, value in values.items() if value.dtype != own[key].dtype}
    for found, expected in sorted(dtypes, key=str):
        report.notes.append(f"{found} converted to {expected}".replace("torch.", ""))
    for key, value in values.items():
        own[key].copy_(value)


def _refusal(report: LoadReport, own: dict[str, Tensor]) -> CheckpointError:
    text = f"{report.source} ({report.format}) does not fit the model of {len(own)} tensors: "
    hint = "create_model(checkpoint=...) without a name builds the model in the file, "
    hint += "load_checkpoint(model, ..., strict=False) loads the rest"
    key, found, expected, _ = report.mismatched[0] if report.mismatched else ShapeChange("", (), (), "")
    if key.startswith(_HEAD) and found[1:] == expected[1:] and len(report.faults) == 1:
        hint = f"num_classes={found[0]} builds the model with this head, new_head=True keeps the model's own"
    if len(report.faults) == 1 and report.missing and all(key.startswith(_HEAD) for key in report.missing):
        hint = "create_model(..., num_classes=N) starts a new head, "
        hint += "load_checkpoint(model, ..., new_head=True) keeps the model's own"
    if len(report.conflicts) == len(report.faults):
        hint = "create_model(checkpoint=...) without a name builds the model as the file says, "
        hint += "load_checkpoint(model, ..., strict=False) loads the weights anyway"
    if report.non_finite and len(report.faults) == 1:
        text = f"{report.source} ({report.format}) is damaged: "
        hint = "load_checkpoint(model, ..., strict=False) loads it anyway"
    return CheckpointError(f"{text}{', '.join(report.faults)}", hint)


def _first(items: Sequence[object], count: int = 3) -> str:
    rest = f" and {len(items) - count} more" if len(items) > count else ""
    return "; ".join(str(item) for item in items[:count]) + rest
