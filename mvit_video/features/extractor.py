"""Features of the windows of a video: what is asked for, and the model that answers.

Letters: W windows, K crops, C channels, T frames of a clip, S pixels of a square crop.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from mvit_video.data.readers import Backend
from mvit_video.types import ConfigError

Layer = Literal["pooled", "tokens", "stage1", "stage2", "stage3", "stage4", "logits"]
Precision = Literal["fp32", "fp16", "bf16"]


class Video(NamedTuple):
    """A video to extract features of.

    Attributes:
        path: what it is called in the results.
        source: where it lies, or its file's bytes.
        label: class; None where unknown.
        span: start and end in seconds of the part that counts, the end perhaps infinite; None is the whole video.
    """

    path: str
    source: Path | bytes
    label: int | None = None
    span: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """Features of the windows of a video; see `Windows` for the columns.

    Attributes:
        feature: `(W, K, *shape)`, K being 1 where crops are averaged; float32, or float16 in half precision.
        fps: frames per second of the video, on average.
    """

    video: Video
    feature: NDArray[Any]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    center_seconds: NDArray[np.float64]
    start_frame: NDArray[np.int64]
    end_frame: NDArray[np.int64]
    num_padded: NDArray[np.int32]
    fps: float


@dataclass(frozen=True)
class ExtractSettings:
    """What is extracted; plain values, for other processes and for JSON.

    Attributes:
        model: a model's name, a checkpoint, or a run folder.
        layer: the embedding, the final tokens, the map of a stage, or the logits.
        window: such as "64" frames or "2.5s"; None is what a clip of the model stands for.
        stride: from one window to the next, likewise; None is the window.
        num_crops: 1 or 3 crops of each window.
        keep_crops: keep the features of each crop, rather than their mean.
        precision: of the model; features are kept as float32 with "fp32", else as float16.
        batch_size: windows that the model takes at once.
        device: "auto" is a GPU where there is one.
        backend: library that decodes.
        decode_short_side: pixels of the shorter edge that larger frames are decoded to; None is what the crops need,
            0 the frames' own size.
    """

    model: str
    layer: Layer = "pooled"
    window: str | None = None
    stride: str | None = None
    num_crops: int = 1
    keep_crops: bool = False
    precision: Precision = "fp32"
    batch_size: int = 8
    device: str = "auto"
    backend: Backend = "pyav"
    decode_short_side: int | None = None


class Extractor:
    """A model, loaded once, and how videos are prepared for it.

    Attributes:
        settings: what was asked for.
        key: sha256 of weights, preprocessing and rule of windows: equal keys give equal features.
        record: what is true of all features: `key`, `model`, `checkpoint`, `layer`, `window`, `stride`, `crops`,
            `precision`, `preprocessing`, `feature_shape`, `class_names`; values of JSON.

    Raises:
        ConfigError: a setting is impossible, or there is no such model.
        CheckpointError: the checkpoint cannot be read.
    """

    settings: ExtractSettings
    key: str
    record: dict[str, Any]

    def __init__(self, settings: ExtractSettings) -> None:
        raise NotImplementedError

    def extract(self, video: Video) -> VideoFeatures:
        """Features of a video, read and computed in this process.

        Raises:
            VideoDecodeError: it cannot be read.
        """
        raise NotImplementedError
