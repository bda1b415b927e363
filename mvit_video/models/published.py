"""What is published of each model: accuracy, views and source, and the frames that its weights were trained on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

RGB: TypeAlias = tuple[float, float, float]
Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class TrainingFacts:
    """What weights were trained with that no tensor shows.

    Attributes:
        mean: of each channel, for pixels between 0 and 1.
        std: of each channel, for pixels between 0 and 1.
        sampling_rate: source frames from one frame of a clip to the next.
        activation: from logits to scores: softmax over all classes, or a sigmoid for each.
    """

    mean: RGB = (0.45, 0.45, 0.45)
    std: RGB = (0.225, 0.225, 0.225)
    sampling_rate: int = 4
    activation: Activation = "softmax"

    def to_json(self) -> str:
        """As text for the metadata of a file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TrainingFacts:
        """The reverse of `to_json`.

        Raises:
            ValueError: the text is not one of `to_json`, or a value is out of range.
        """
        try:
            return cls.checked(**json.loads(text))
        except (TypeError, RecursionError) as error:
            raise ValueError(f"not the text of training facts ({error})") from error

    @classmethod
    def checked(cls, mean: Any, std: Any, sampling_rate: Any, activation: Any) -> TrainingFacts:
        """Facts that a file states.

        Raises:
            ValueError: a value is of another kind or out of range.
        """
        if not isinstance(sampling_rate, int) or not 1 <= sampling_rate <= 10**6:
            raise ValueError(f"sampling_rate must be a whole number from 1 to 1000000, got {sampling_rate!r}")
        if activation not in get_args(Activation):
            raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}, got {activation!r}")
        return cls(_rgb("mean", mean, -1e6), _rgb("std", std, 0.0), sampling_rate, activation)


def _rgb(name: str, values: Any, above: float) -> RGB:
    is_three = isinstance(values, list | tuple) and len(values) == 3
    if not is_three or not all(isinstance(one, int | float) and above < one < 1e6 for one in values):
        raise ValueError(f"{name} must be three numbers above {above:g}, got {values!r}")
    red, green, blue = (float(one) for one in values)
    return red, green, blue


class Published(NamedTuple):
    """A row of a publication.

    Attributes:
        top1: in percent; None where no number is published.
        data: data set, or why there is no number.
        views: of the test.
        source: paper.
        facts: what the published weights were trained with.
    """

    top1: float | None
    data: str
    views: str
    source: str
    facts: TrainingFacts


IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)
# An image is one frame; features of a video by a net of images are of a frame each second.
IMAGE_FACTS = TrainingFacts(IMAGENET_MEAN, IMAGENET_STD, sampling_rate=30)

_PAPER_1, _PAPER_2 = "arXiv:2104.11227", "arXiv:2112.01526"
_PVT, _PVT_V2, _CPVT, _TWINS = "arXiv:2102.12122", "arXiv:2106.13797", "arXiv:2102.10882", "arXiv:2104.13840"
_IMAGE_VIEW = "centre crop"
_X4, _X3 = TrainingFacts(sampling_rate=4), TrainingFacts(sampling_rate=3)  # SlowFast's mean and std
_FROM_IMAGENET_X3 = TrainingFacts(IMAGENET_MEAN, IMAGENET_STD, sampling_rate=3)
PUBLISHED: dict[str, Published] = {
    "mvit_s_16x4": Published(76.0, "Kinetics-400", "5 clips x 1 crop", _PAPER_1, _X4),
    "mvit_b_16x4": Published(78.4, "Kinetics-400", "5 clips x 1 crop", _PAPER_1, _X4),
    "mvit_b_32x3": Published(80.2, "Kinetics-400", "5 clips x 1 crop", _PAPER_1, _X3),
    "mvit_b_64x3": Published(81.2, "Kinetics-400", "3 clips x 3 crops", _PAPER_1, _X3),
    "mvit_b24_32x3": Published(83.8, "Kinetics-600", "5 clips x 1 crop", _PAPER_1, _X3),
    "mvitv2_s_16x4": Published(81.0, "Kinetics-400", "5 clips x 1 crop", _PAPER_2, _X4),
    "mvitv2_b_32x3": Published(82.9, "Kinetics-400", "5 clips x 1 crop", _PAPER_2, _X3),
    "mvitv2_l_40x3": Published(
        86.1, "Kinetics-400, from ImageNet-21K", "5 clips x 3 crops", _PAPER_2, _FROM_IMAGENET_X3
    ),
    "mvit_b_16": Published(83.0, "ImageNet-1K", _IMAGE_VIEW, _PAPER_1, IMAGE_FACTS),
    "mvitv2_t": Published(82.3, "ImageNet-1K", _IMAGE_VIEW, _PAPER_2, IMAGE_FACTS),
    "mvitv2_s": Published(83.6, "ImageNet-1K", _IMAGE_VIEW, _PAPER_2, IMAGE_FACTS),
    "mvitv2_b": Published(84.4, "ImageNet-1K", _IMAGE_VIEW, _PAPER_2, IMAGE_FACTS),
    "mvitv2_l": Published(85.3, "ImageNet-1K", _IMAGE_VIEW, _PAPER_2, IMAGE_FACTS),
    "pvt_tiny": Published(75.1, "ImageNet-1K", _IMAGE_VIEW, _PVT, IMAGE_FACTS),
    "pvt_small": Published(79.8, "ImageNet-1K", _IMAGE_VIEW, _PVT, IMAGE_FACTS),
    "pvt_medium": Published(81.2, "ImageNet-1K", _IMAGE_VIEW, _PVT, IMAGE_FACTS),
    "pvt_large": Published(81.7, "ImageNet-1K", _IMAGE_VIEW, _PVT, IMAGE_FACTS),
    "pvt_huge": Published(None, "none", _IMAGE_VIEW, _PVT, IMAGE_FACTS),
    "pvt_v2_b0": Published(70.5, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2, IMAGE_FACTS),
    "pvt_v2_b1": Published(78.7, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2, IMAGE_FACTS),
    "pvt_v2_b2": Published(82.0, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2, IMAGE_FACTS),
    "pvt_v2_b2_li": Published(82.1, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2, IMAGE_FACTS),
    "pvt_v2_b3": Published(83.1, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2, IMAGE_FACTS),
    "pvt_v2_b4": Published(83.6, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2, IMAGE_FACTS),
    "pvt_v2_b5": Published(83.8, "ImageNet-1K", _IMAGE_VIEW, _PVT_V2, IMAGE_FACTS),
    "twins_pcpvt_small": Published(81.2, "ImageNet-1K", _IMAGE_VIEW, _TWINS, IMAGE_FACTS),
    "twins_pcpvt_base": Published(82.7, "ImageNet-1K", _IMAGE_VIEW, _TWINS, IMAGE_FACTS),
    "twins_pcpvt_large": Published(83.1, "ImageNet-1K", _IMAGE_VIEW, _TWINS, IMAGE_FACTS),
    "cpvt_ti": Published(72.4, "ImageNet-1K", _IMAGE_VIEW, _CPVT, IMAGE_FACTS),
    "cpvt_ti_plus": Published(73.4, "ImageNet-1K", _IMAGE_VIEW, _CPVT, IMAGE_FACTS),
    "cpvt_ti_gap": Published(74.9, "ImageNet-1K", _IMAGE_VIEW, _CPVT, IMAGE_FACTS),
    "cpvt_s": Published(79.9, "ImageNet-1K", _IMAGE_VIEW, _CPVT, IMAGE_FACTS),
    "cpvt_s_plus": Published(80.5, "ImageNet-1K", _IMAGE_VIEW, _CPVT, IMAGE_FACTS),
    "cpvt_s_gap": Published(81.5, "ImageNet-1K", _IMAGE_VIEW, _CPVT, IMAGE_FACTS),
    "cpvt_b": Published(81.9, "ImageNet-1K", _IMAGE_VIEW, _CPVT, IMAGE_FACTS),
    "cpvt_b_plus": Published(None, "not looked up", _IMAGE_VIEW, _CPVT, IMAGE_FACTS),
    "cpvt_b_gap": Published(None, "not looked up", _IMAGE_VIEW, _CPVT, IMAGE_FACTS),
    **dict.fromkeys(
        [f"alternet_{depth}" for depth in (18, 34, 50, 101, 152)],
        Published(None, "in figures only", _IMAGE_VIEW, "arXiv:2202.06709", IMAGE_FACTS),
    ),
}
