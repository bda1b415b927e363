"""Metrics of a run in percent: over clips in training, over videos in validation."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from mvit_video.jobs.distributed import all_gather_objects
from mvit_video.metrics.accuracy import class_precision, label_ranks, mean_known, share_within


class ClipMean(Metric):
    """Mean over all clips since the last reset, over all processes; NaN where there are none."""

    full_state_update = False
    total: Tensor
    num_clips: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("num_clips", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, total: Tensor, num_clips: int) -> None:
        """Add the sum over some clips."""
        self.total += total
        self.num_clips += num_clips

    def compute(self) -> Tensor:
        """Return the mean."""
        return self.total / self.num_clips


class VideoMetric(Metric):
    """Metric that counts each video once, also where a padding sampler gave it to several processes."""

    full_state_update = False
    videos: list[Tensor]
    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__(
            sync_on_compute=False
        )  # torchmetrics cannot join types that differ, as those of an empty process do
        self.add_state("videos", [])
        self.add_state("values", [])

    def keep(self, video: Tensor, values: Tensor) -> None:
        """Add videos: `(V,)` rows of the annotation table, `(V, ...)` values."""
        self.videos.append(video.cpu())
        self.values.append(values.cpu())

    def once(self) -> Tensor | None:
        """Return the values of all processes, in the order of the table; None where there are none."""
        shares = all_gather_objects((self.videos, self.values))
        videos = [video for share, _ in shares for video in share]
        if not videos:
            return None
        _, first = np.unique(torch.cat(videos).numpy(), return_index=True)
        return torch.cat([value for _, share in shares for value in share])[torch.from_numpy(first)]

    def compute(self) -> Tensor:
        """Return the metric of all videos since the last reset; NaN where there are none."""
        values = self.once()
        return torch.tensor(torch.nan) if values is None else self.result(values).to(self.device, torch.float32)

    @abstractmethod
    def result(self, values: Tensor) -> Tensor:
        """Return the metric of the values."""


class VideoMean(VideoMetric):
    """Mean over the videos."""

    def update(self, video: Tensor, values: Tensor) -> None:
        """Add one value for each video."""
        self.keep(video, values)

    def result(self, values: Tensor) -> Tensor:
        """Return the mean."""
        return values.double().mean()


class PercentVideosWithin(VideoMetric):
    """Percentage of videos whose label is among the `k` most probable classes."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def update(self, video: Tensor, probabilities: Tensor, label: Tensor) -> None:
        """Add videos: `(V, C)` probabilities and `(V,)` classes."""
        self.keep(video, label_ranks(probabilities, label))

    def result(self, values: Tensor) -> Tensor:
        """Return the percentage."""
        return share_within(values, self.k)


class PercentMeanPrecision(VideoMetric):
    """Mean over the classes of the average precision, for videos with any number of labels."""

    def update(self, video: Tensor, probabilities: Tensor, label: Tensor) -> None:
        """Add videos: `(V, C)` probabilities, `(V, C)` with 1 at each class."""
        self.keep(video, torch.stack([probabilities, label], dim=1))

    def result(self, values: Tensor) -> Tensor:
        """Return the mean; classes without a video are ignored."""
        probabilities, label = values.unbind(dim=1)
        return mean_known(class_precision(probabilities, label))


def video_metrics(split: Literal["val", "test"], num_classes: int, multi_label: bool) -> dict[str, Metric]:
    """Return metrics by the name they are logged under; the first of validation chooses the best checkpoint."""
    if multi_label:
        return {f"{split}/mAP": PercentMeanPrecision()}
    ranks = (1, 5) if num_classes > 5 else (1,)  # top-5 says nothing of fewer classes
    return {f"{split}/top{k}": PercentVideosWithin(k) for k in ranks}
