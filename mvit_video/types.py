"""Values and errors that every floor shares; imports nothing of the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from math import inf
from os import PathLike, fspath
from typing import Any, Literal, NamedTuple, get_args

Backend = Literal["decord", "pyav", "torchcodec"]
Precision = Literal["fp32", "fp16", "bf16"]
Layer = Literal["pooled", "tokens", "stage1", "stage2", "stage3", "stage4", "logits"]
FeatureFormat = Literal["parquet", "npy", "video_features", "hdf5"]
Interpolation = Literal["bilinear", "bicubic"]
Sampling = Literal["rate", "segments"]
ViewProtocol = Literal["slowfast", "torchvision", "pytorchvideo"]
FrameOrder = Literal["forward", "shuffled", "reversed", "frozen"]
CorruptionKind = Literal["gaussian_noise", "shot_noise", "blur", "frame_drop", "compression"]
NUM_SEVERITIES = 5


class THW(NamedTuple):
    """Size, stride or kernel along time, height and width.

    Examples:
        >>> mv.THW(8, 14, 14).volume
        1568
    """

    t: int
    h: int
    w: int

    @property
    def volume(self) -> int:
        """Number of cells."""
        return self.t * self.h * self.w


@dataclass(frozen=True)
class ClipSpec:
    """Which source frames make a clip: 16x4 is `num_frames=16, sampling_rate=4`.

    Attributes:
        num_frames: frames in a clip after sampling.
        sampling_rate: source frames from one clip frame to the next, in a video of `target_fps`.
        target_fps: frames per second that `sampling_rate` refers to; at another rate, a clip covers the same seconds.
        sampling: "rate" takes frames `sampling_rate` apart; "segments" takes one frame from each of `num_frames` equal
            parts of the video, a random one in training and the middle one otherwise. A class with its arguments, as in
            `{class_path: pytorchvideo.data.clip_sampling.RandomMultiClipSampler, init_args: {num_clips: 2}}`, places
            the clips of training; its `clip_duration` is that of a clip unless given. Validation and test then use
            "rate".

    Examples:
        >>> mv.ClipSpec(num_frames=32, sampling_rate=3).target_fps
        30.0
    """

    num_frames: int = 16
    sampling_rate: int = 4
    target_fps: float = 30.0
    sampling: Sampling | dict[str, Any] = "rate"

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ConfigError(f"clip.num_frames must be at least 1, got {self.num_frames}")
        if self.sampling_rate < 1:
            raise ConfigError(f"clip.sampling_rate must be at least 1, got {self.sampling_rate}")
        if not 0 < self.target_fps < inf:
            raise ConfigError(f"clip.target_fps must be above 0 and finite, got {self.target_fps}")
        if not isinstance(self.sampling, dict):
            _require_one_of(get_args(Sampling), "clip.sampling", self.sampling, "or {class_path: ..., init_args: ...}")
        elif not isinstance(self.sampling.get("class_path"), str) or self.sampling.keys() - {"class_path", "init_args"}:
            raise ConfigError(
                f"clip.sampling must have the keys class_path and perhaps init_args, got {sorted(self.sampling)}"
            )


@dataclass(frozen=True)
class Corruption:
    """Corruption of test clips.

    Attributes:
        kind: "gaussian_noise"; "shot_noise" of few photons; Gaussian "blur"; "frame_drop", which repeats the frame
            before a lost one; "compression" with H.264.
        severity: 1 to 5.
    """

    kind: CorruptionKind
    severity: int = 3

    def __post_init__(self) -> None:
        _require_one_of(get_args(CorruptionKind), "corruption.kind", self.kind)
        if not 1 <= self.severity <= NUM_SEVERITIES:
            raise ConfigError(f"corruption.severity must be from 1 to {NUM_SEVERITIES}, got {self.severity}")

    def __str__(self) -> str:
        return f"{self.kind} {self.severity}"


@dataclass(frozen=True)
class ViewSpec:
    """Views of a video to score: `num_clips` clip positions times `num_crops` crop positions.

    Attributes:
        num_clips: clip positions, spread uniformly over the video.
        num_crops: 1 for the centre crop, 3 for left/centre/right (top/centre/bottom of a tall video).
        short_side: pixels of the short side before cropping; None is SlowFast's rule: 8/7 of the crop size
            (256 for 224) with one crop, the crop size with three.
        interpolation: interpolation of resizing: "bilinear", as published for videos, or "bicubic", for images.
        protocol: rules for clip starts, frames, short side and centre crops: "slowfast", as in published results of
            MViT; "torchvision" (one crop) or "pytorchvideo", as for their weights.
        frame_order: order of the frames of each clip.
        corruption: corruption of each clip, before frames are ordered and cropped; None is off.

    Examples:
        >>> mv.ViewSpec(num_clips=5, num_crops=3).num_views
        15
    """

    num_clips: int = 5
    num_crops: int = 1
    short_side: int | None = None
    interpolation: Interpolation = "bilinear"
    protocol: ViewProtocol = "slowfast"
    frame_order: FrameOrder = "forward"
    corruption: Corruption | None = None

    def __post_init__(self) -> None:
        if self.num_clips < 1:
            raise ConfigError(f"views.num_clips must be at least 1, got {self.num_clips}")
        if self.num_crops not in (1, 3):
            raise ConfigError(f"views.num_crops must be 1 or 3, got {self.num_crops}")
        if self.short_side is not None and self.short_side < 1:
            raise ConfigError(f"views.short_side must be at least 1, got {self.short_side}")
        _require_one_of(get_args(Interpolation), "views.interpolation", self.interpolation)
        _require_one_of(get_args(ViewProtocol), "views.protocol", self.protocol)
        _require_one_of(get_args(FrameOrder), "views.frame_order", self.frame_order)

    @property
    def num_views(self) -> int:
        """Views of one video."""
        return self.num_clips * self.num_crops


def _require_one_of(known: tuple[str, ...], key: str, value: str, other: str = "") -> None:
    if value not in known:
        raise ConfigError(f"{key} must be one of {' '.join([', '.join(known), other]).strip()}, got {value!r}")


def _one_line(text: str) -> str:
    """Replace line breaks, which paths may have."""
    return text.replace("\n", "\\n").replace("\r", "\\r")


def printable(text: str, max_length: int = 1000) -> str:
    """Return text of a file as one safe line, with control characters escaped and at most `max_length` characters."""
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text[:max_length])
    return shown + ("..." if len(text) > max_length else "")


class MVitVideoError(Exception):
    """Base class of errors that a user can cause; the message is one line.

    Attributes:
        exit_code: exit code of a command: 1 if the work failed.

    Examples:
        >>> try:
        ...     mv.open_video("missing.mp4")
        ... except mv.MVitVideoError as error:
        ...     print(error)
        missing.mp4: no such file
    """

    exit_code = 1


class VideoDecodeError(MVitVideoError):
    """A video cannot be opened or decoded; carries `path` and `reason`.

    Examples:
        >>> str(mv.VideoDecodeError("v.mp4", "no video stream"))
        'v.mp4: no video stream'
    """

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        self.path, self.reason = fspath(path), reason
        super().__init__(_one_line(f"{self.path}: {reason}"))

    def __reduce__(self) -> tuple[type[VideoDecodeError], tuple[str, str]]:
        return type(self), (self.path, self.reason)  # crosses DataLoader worker boundaries


class AnnotationError(MVitVideoError):
    """An annotation file has an error; carries `file`, `line` (from 1; 0 is the complete file) and `reason`.

    Examples:
        >>> str(mv.AnnotationError("clips.csv", 7, "label 'runing' is not a class"))
        "clips.csv:7: label 'runing' is not a class"
    """

    def __init__(self, file: str | PathLike[str], line: int, reason: str) -> None:
        self.file, self.line, self.reason = fspath(file), line, reason
        super().__init__(_one_line(f"{self.file}:{line}: {reason}" if line else f"{self.file}: {reason}"))

    def __reduce__(self) -> tuple[type[AnnotationError], tuple[str, int, str]]:
        return type(self), (self.file, self.line, self.reason)


class CheckpointError(MVitVideoError):
    """A checkpoint cannot be read or does not fit the model; carries `reason` and `hint`.

    Args:
        reason: the problem; control characters are escaped, since names come from the file.
        hint: the remedy in words of the Python interface; `advising` replaces it.

    Examples:
        >>> str(mv.CheckpointError("weights have 400 classes", "set num_classes=400"))
        'weights have 400 classes; set num_classes=400'
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        self.reason, self.hint = printable(reason), hint
        super().__init__(f"{self.reason}; {hint}" if hint else self.reason)

    def advising(self, hint: str) -> CheckpointError:
        """Return the error with another hint, if it has one."""
        return CheckpointError(self.reason, hint if self.hint else "")

    def __reduce__(self) -> tuple[type[CheckpointError], tuple[str, str]]:
        return type(self), (self.reason, self.hint)


class ConfigError(MVitVideoError):
    """A setting has an impossible value, or settings disagree; a command ends with 2 before the work begins.

    Examples:
        >>> mv.ViewSpec(num_crops=2)
        Traceback (most recent call last):
        mvit_video.types.ConfigError: views.num_crops must be 1 or 3, got 2
    """

    exit_code = 2


class TrainingError(MVitVideoError):
    """A run cannot continue; all its processes raise this together, and one reports it.

    Examples:
        >>> issubclass(mv.TrainingError, mv.MVitVideoError)
        True
    """


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package whose names are imported when first used.

    Args:
        package: `__name__` of the package.
        modules: names of each module, separated by spaces; modules are relative to the package.
    """
    home = {name: module for module, names in modules.items() for name in names.split()}

    def load(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    def public() -> list[str]:
        return sorted(import_module(package).__all__)

    return load, public
