"""Published facts of named models: size, accuracy, views, source, and the input of the weights; needs no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

RGB: TypeAlias = tuple[float, float, float]
Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class TrainingFacts:
    """Facts of a training that its tensors do not show.

    Attributes:
        mean: of each channel, for pixels between 0 and 1.
        std: of each channel, for pixels between 0 and 1.
        sampling_rate: source frames from one frame of a clip to the next.
        activation: of the logits: softmax over all classes, or a sigmoid for each.
    """

    mean: RGB = (0.45, 0.45, 0.45)
    std: RGB = (0.225, 0.225, 0.225)
    sampling_rate: int = 4
    activation: Activation = "softmax"

    def to_json(self) -> str:
        """Return the facts as text for the metadata of a file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TrainingFacts:
        """Read the text of `to_json`.

        Raises:
            ValueError: it is another text, or a value is out of range.
        """
        try:
            return cls.checked(**json.loads(text))
        except (TypeError, RecursionError) as error:
            raise ValueError(f"not the text of training facts ({error})") from error

    @classmethod
    def checked(cls, mean: Any, std: Any, sampling_rate: Any, activation: Any) -> TrainingFacts:
        """Check facts that a file states.

        Raises:
            ValueError: a value has another type or is out of range.
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


IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)
# a net for images takes one frame of a video each second
IMAGE_FACTS = TrainingFacts(IMAGENET_MEAN, IMAGENET_STD, sampling_rate=30)


class ModelSize(NamedTuple):
    """Input and cost of a model with the defaults of its builder.

    Attributes:
        multiply_adds: of one clip.
    """

    num_frames: int
    crop_size: int
    num_parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Variant:
    """Published facts of a named model.

    Attributes:
        size: a test builds every model and compares.
        top1: in percent; None where no number is published.
        source: paper.
        data: data set, or why there is no number.
        views: of the test.
        facts: what the published weights were trained with.
    """

    size: ModelSize
    top1: float | None
    source: str
    data: str = "ImageNet-1K"
    views: str = "centre crop"
    facts: TrainingFacts = IMAGE_FACTS

    @property
    def result(self) -> str:
        """Top1 with its data set and views."""
        return self.data if self.top1 is None else f"{self.top1:.1f} on {self.data}, {self.views}"
