"""Scores of videos from the probabilities of their views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat


@dataclass(frozen=True, eq=False)
class VideoPredictions:
    """One row per video, sorted by `video`.

    Attributes:
        video: `(V,)` row of the annotation table.
        probabilities: `(V, C)` float32, mean over the views.
        label: `(V,)`; -1 where unknown.
        num_views: `(V,)` different views seen.
    """

    video: Tensor
    probabilities: Tensor
    label: Tensor
    num_views: Tensor

    def select(self, mask: Tensor) -> VideoPredictions:
        """The videos where `mask` is true."""
        return VideoPredictions(self.video[mask], self.probabilities[mask], self.label[mask], self.num_views[mask])

    @property
    def prediction(self) -> Tensor:
        """`(V,)` most probable class, the first of several that are equal."""
        return self.probabilities.argmax(dim=1)

    def top(self, k: int) -> Tensor:
        """Videos whose label is among the `k` most probable classes, in percent; equal classes rank in their order."""
        known = self.label >= 0
        probabilities, label = self.probabilities[known], self.label[known, None]
        own = probabilities.gather(1, label)
        before = torch.arange(probabilities.shape[1]) < label
        rank = ((probabilities > own) | ((probabilities == own) & before)).sum(dim=1)
        return 100 * (rank < k).double().mean()

    @property
    def mean_class(self) -> Tensor:
        """Mean over the classes that occur of the share of their videos predicted right, in percent."""
        known = self.label >= 0
        label, correct = self.label[known], (self.prediction == self.label)[known].double()
        num_videos = torch.bincount(label)
        hits = torch.bincount(label, weights=correct)
        return 100 * (hits / num_videos)[num_videos > 0].mean()


class VideoScores(Metric):
    """Mean probabilities of each video over its views.

    A view that arrives twice, as with loaders that pad the last batch of a process, counts once. The result is the
    same, bit by bit, in whatever order and in however many processes the views were seen.
    """

    full_state_update = False
    probabilities: list[Tensor]
    label: list[Tensor]
    video: list[Tensor]
    view: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for name in ("probabilities", "label", "video", "view"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, label: Tensor, video: Tensor, view: Tensor) -> None:
        """Adds views: `(N, C)` probabilities and `(N,)` each of label, row of the table and number of the view."""
        self.probabilities.append(probabilities.float())
        self.label.append(label)
        self.video.append(video)
        self.view.append(view)

    def compute(self) -> dict[str, Tensor]:
        """`top1`, `top5` and `mean_class` in percent, over all processes."""
        videos = self.videos()
        return {"top1": videos.top(1), "top5": videos.top(5), "mean_class": videos.mean_class}

    def gather(self) -> VideoPredictions:
        """The videos of all processes."""
        if not self.probabilities:  # a process without videos takes part in the gathering all the same
            none = torch.empty(0, dtype=torch.long, device=self.device)
            self.update(torch.empty(0, self.num_classes, device=self.device), none, none, none)
        with self.sync_context():
            return self.videos()

    def videos(self) -> VideoPredictions:
        """The videos of the states at hand."""
        probabilities, label, video, view = (
            dim_zero_cat(cast(list[Tensor], getattr(self, name))).cpu()
            for name in ("probabilities", "label", "video", "view")
        )
        order = torch.argsort(video * (int(view.max()) + 1 if len(view) else 1) + view, stable=True)
        probabilities, label, video, view = (x[order] for x in (probabilities, label, video, view))
        first = torch.ones_like(video, dtype=torch.bool)
        first[1:] = (video[1:] != video[:-1]) | (view[1:] != view[:-1])
        rows, group, num_views = torch.unique_consecutive(video[first], return_inverse=True, return_counts=True)
        total = torch.zeros(len(rows), probabilities.shape[1], dtype=torch.float64)
        total.index_add_(0, group, probabilities[first].double())
        labels = torch.empty(len(rows), dtype=label.dtype)
        labels[group] = label[first]
        return VideoPredictions(rows, (total / num_views[:, None]).float(), labels, num_views)
