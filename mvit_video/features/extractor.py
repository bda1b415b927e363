"""Extractor: settings, and the model that computes features of the windows of a video.

Letters: B windows of a batch, W of a video, K crops, T frames of a clip, S pixels of a square crop.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.features.decoding import Chunk, ReadingRule, read_chunks
from mvit_video.features.videos import Video, VideoFeatures
from mvit_video.features.windows import Windows, WindowSpec
from mvit_video.jobs import Heartbeat
from mvit_video.models.net import features_at
from mvit_video.nn import tune_for_cpu
from mvit_video.runs.inference import choose_device, mixed_precision
from mvit_video.runs.trained_model import TrainedModel, load_model
from mvit_video.types import Backend, ConfigError, Layer, Precision, VideoDecodeError

_RULE_VERSION = 1  # changes when the same settings give other features


@dataclass(frozen=True)
class ExtractSettings:
    """Settings of an extraction as plain values, for other processes and for JSON.

    Attributes:
        model: run folder, checkpoint, or name of a model.
        layer: the embedding, the final tokens, the map of a stage, or the logits.
        window: frames such as 64, or seconds such as "2.5s"; None is what a clip of the model covers.
        stride: from one window to the next, as `window`; None is the window.
        num_crops: 1 or 3 crops of each window.
        keep_crops: keep the features of each crop instead of their mean.
        precision: precision of the model; features are float32 with "fp32", else float16.
        batch_size: clips that the model takes at once; a window has one per crop.
        device: "auto" is a GPU where there is one.
        backend: library that decodes.
        decode_short_side: pixels of the shorter edge that larger frames are decoded to; 0 is the frames' own size; None
            is what the crops need, and the frames' own size with bicubic resizing.
    """

    model: str
    layer: Layer = "pooled"
    window: int | str | None = None
    stride: int | str | None = None
    num_crops: int = 1
    keep_crops: bool = False
    precision: Precision = "fp32"
    batch_size: int = 8
    device: str = "auto"
    backend: Backend = "pyav"
    decode_short_side: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (
            ("layer", get_args(Layer)),
            ("precision", get_args(Precision)),
            ("num_crops", (1, 3)),
            ("backend", get_args(Backend)),
        ):
            if (value := getattr(self, name)) not in choices:
                raise ConfigError(f"{name}={value} must be one of {', '.join(map(str, choices))}")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size={self.batch_size} must be at least 1")
        if (self.decode_short_side or 0) < 0:
            raise ConfigError(f"decode_short_side={self.decode_short_side} must be at least 0")


class Place(NamedTuple):
    """A window of a chunk."""

    chunk: Chunk
    row: int


class Extractor:
    """Model and preprocessing that turn videos into features.

    Attributes:
        rule: how videos are read.
        key: sha256 of weights, preprocessing and rule of windows: equal keys give equal features.
        record: values of JSON that hold for all features: `key`, `model`, `checkpoint`, `layer`, `window`, `stride`,
            `crops`, `precision`, `preprocessing`, `feature_shape`, `class_names`.

    Raises:
        ConfigError: a setting is impossible, or there is no such model.
        CheckpointError: the checkpoint cannot be read.
    """

    def __init__(self, settings: ExtractSettings, trained: TrainedModel | None = None) -> None:
        self.settings = settings
        self.trained = load_model(settings.model) if trained is None else trained
        self.rule = _reading_rule(settings, self.trained)
        self.device = choose_device(settings.device)
        self._net = tune_for_cpu(self.trained.net.eval())
        self.feature_shape = self._shape()
        self.record = self._record()
        self.key: str = self.record["key"]
        self._net.to(self.device)
        needs = self.trained.preprocessing.input
        mean, std = torch.tensor(needs.mean), torch.tensor(needs.std)
        # of bytes, with the result of `Normalize`
        self._scale, self._shift = (one.view(3, 1, 1, 1).to(self.device) for one in (1 / (255 * std), mean / std))

    @property
    def windows_per_batch(self) -> int:
        """Number of windows in a batch."""
        return max(1, self.settings.batch_size // self.settings.num_crops)

    def extract(self, video: Video, heartbeat: Heartbeat = lambda: None) -> VideoFeatures:
        """Return the features of a video, read and computed in this process.

        Args:
            heartbeat: called after each part of the work.

        Raises:
            VideoDecodeError: the video cannot be read, or has a non-finite feature.
        """
        features: list[NDArray[Any]] = []
        windows: list[Windows] = []
        fps = 0.0
        for chunk in read_chunks(video, self.rule):
            fps = chunk.fps
            windows.append(chunk.windows)
            for batch in self.batches(chunk):
                heartbeat()
                features.append(self.features_of(batch))
            heartbeat()
        return join_features(video, windows, features, fps)

    def batches(self, chunk: Chunk) -> Iterator[list[Place]]:
        """Split the windows of a chunk into batches for `features_of`."""
        for start in range(0, len(chunk.rows), self.windows_per_batch):
            yield [Place(chunk, row) for row in range(len(chunk.rows))[start : start + self.windows_per_batch]]

    @torch.inference_mode()
    def features_of(self, places: Sequence[Place]) -> NDArray[Any]:
        """Return the features `(B, K, *shape)` of some windows, of one video or several."""
        with mixed_precision(self.device, self.settings.precision):
            features = features_at(self._net, self.clips(places), self.settings.layer)
        features = features.float().unflatten(0, (-1, self.settings.num_crops))
        if not self.settings.keep_crops:
            features = features.mean(dim=1, keepdim=True)
        return (features if self.settings.precision == "fp32" else features.half()).cpu().numpy()

    def clips(self, places: Sequence[Place]) -> Tensor:
        """Return the clips `(B*K, 3, T, S, S)` of some windows, on the device of the model."""
        clips = torch.stack([torch.from_numpy(chunk.frames[chunk.rows[row]]) for chunk, row in places])
        # from (B, T, K, 3, S, S), as bytes, which are fewer to move
        clips = clips.permute(0, 2, 3, 1, 4, 5).flatten(0, 1).to(self.device).float()
        return clips.mul_(self._scale).sub_(self._shift)

    def _shape(self) -> tuple[int, ...]:
        """Return the shape of one feature; of a map or of tokens, from a pass on the meta device."""
        net, layer = self._net, self.settings.layer
        if layer == "pooled":
            return (net.embed_dim,)
        if layer == "logits" and net.num_classes:
            return (net.num_classes,)
        # imports what compiles graphs, which takes seconds
        shapes = copy.deepcopy(net).to("meta")
        with torch.inference_mode():
            clip = torch.empty(1, 3, net.num_frames, net.crop_size, net.crop_size, device="meta")
            return tuple(features_at(shapes, clip, layer).shape[1:])

    def _preprocessing_record(self) -> dict[str, Any]:
        needs, rule = self.trained.preprocessing, self.rule
        clip = asdict(needs.clip)
        del clip["sampling"]  # windows slide over a video whatever it is
        record = {
            "clip": clip, "crop_size": rule.crop_size, "short_side": rule.short_side, "mean": needs.input.mean,
            "std": needs.input.std, "backend": rule.backend, "decode_short_side": rule.decode_short_side,
        }  # fmt: skip
        # bilinear was once the only one, and keys of those days stay valid
        return record if rule.interpolation == "bilinear" else record | {"interpolation": rule.interpolation}

    def _record(self) -> dict[str, Any]:
        settings, rule = self.settings, self.rule
        record = {
            "model": self.trained.name,
            "checkpoint": None if self.trained.checkpoint is None else str(self.trained.checkpoint),
            "layer": settings.layer,
            "window": str(rule.windows.window),
            "stride": str(rule.windows.stride),
            "crops": "each of 3" if settings.keep_crops and settings.num_crops == 3 else str(settings.num_crops),
            "precision": settings.precision,
            "preprocessing": self._preprocessing_record(),
        }
        decisive = {name: value for name, value in record.items() if name not in ("model", "checkpoint")}
        decisive |= {"weights": self.trained.digest(), "version": _RULE_VERSION}
        key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
        of_weights = {"feature_shape": self.feature_shape, "class_names": self.trained.class_names}
        return json.loads(json.dumps({"key": key, **record, **of_weights}))


def join_features(
    video: Video, windows: Sequence[Windows], features: Sequence[NDArray[Any]], fps: float
) -> VideoFeatures:
    """Join the features of the pieces of a video.

    Raises:
        VideoDecodeError: a feature is NaN or infinite.
    """
    joined = np.concatenate(features)
    if not np.isfinite(joined).all():
        raise VideoDecodeError(video.path, "its features are NaN or infinite; try another precision")
    columns = {name: np.concatenate([getattr(part, name) for part in windows]) for name in Windows._fields[1:]}
    return VideoFeatures(video, joined, fps=fps, **columns)


def _reading_rule(settings: ExtractSettings, trained: TrainedModel) -> ReadingRule:
    needs = trained.preprocessing
    short_side, crop_size = needs.short_side(settings.num_crops), needs.input.crop_size
    # the decoder resizes bilinearly
    needed = short_side if needs.views.interpolation == "bilinear" else 0
    decoded = needed if settings.decode_short_side is None else settings.decode_short_side
    if decoded and decoded < crop_size:
        raise ConfigError(f"decode_short_side={decoded} is below the crop of {crop_size} pixels")
    windows = WindowSpec.of_clip(needs.clip, settings.window, settings.stride)
    return ReadingRule(
        windows, short_side, crop_size, settings.num_crops, settings.backend, decoded, needs.views.interpolation
    )
