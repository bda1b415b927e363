"""Settings of a config become values of their types, or one line that names the key."""

from typing import Any

import pytest

from mvit_video.data.clips.mixing import Mixing
from mvit_video.data.clips.transforms import RGB, Augment
from mvit_video.data.settings import in_new_layout
from mvit_video.runs.settings import typed_settings
from mvit_video.types import ClipSpec, ConfigError, Corruption, Sampling, ViewSpec

KINDS = {
    "clip": ClipSpec, "views": ViewSpec, "mean": RGB, "augment": Augment, "mixing": Mixing, "sampling": Sampling,
    "smoothing": float,
}  # fmt: skip


def test_values_are_built_of_plain_ones() -> None:
    given = {
        "clip": {"num_frames": 8}, "views": None, "mean": [0, 0.5, 1], "sampling": "segments", "smoothing": 0,
        "augment": {"scale": [0.5, 1], "erasing": {"probability": 0.5}, "randaugment": None}, "other": object(),
    }  # fmt: skip
    typed = typed_settings(given, KINDS, "data")
    assert typed.keys() == {"clip", "mean", "augment", "sampling", "smoothing"}
    assert (typed["clip"], typed["mean"]) == (ClipSpec(8), (0.0, 0.5, 1.0))
    assert typed["augment"].scale == (0.5, 1.0)
    assert typed["augment"].erasing.probability == 0.5
    assert typed_settings(None, KINDS, "data") == {}
    views = {"num_clips": 2, "corruption": {"kind": "blur"}}
    assert typed_settings({"views": views}, KINDS, "data")["views"] == ViewSpec(2, corruption=Corruption("blur"))


def test_keys_of_earlier_versions_are_read_where_they_are_now() -> None:
    before = {
        "train": "a.csv", "class_names": None, "clip": {"num_frames": 8}, "sampling": "segments", "crop_size": 32,
        "views": None, "protocol": "torchvision", "batch_size": 2,
    }  # fmt: skip
    now = {
        "train": "a.csv", "classes": {"names": None}, "clip": {"num_frames": 8, "sampling": "segments"},
        "input": {"crop_size": 32}, "views": {"protocol": "torchvision"}, "loading": {"batch_size": 2},
    }  # fmt: skip
    assert in_new_layout(before) == in_new_layout(now) == now


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"views": {"short_side": "x"}}, "data.views.short_side='x': expected a whole number"),
        ({"views": {"num_clips": True}}, "data.views.num_clips=True: expected a whole number"),
        ({"views": {"num_crops": 2}}, "views.num_crops must be 1 or 3, got 2"),
        ({"clip": "/etc/passwd"}, "data.clip='/etc/passwd': expected keys with values"),
        ({"clip": {"frames": 3}}, "data.clip.frames: there is no such key; known are num_frames, sampling_rate"),
        ({"mean": [1, 2]}, "data.mean=[1, 2]: expected 3 values"),
        ({"mean": [1, 2, "3"]}, "data.mean='3': expected a number"),
        ({"augment": {"erasing": 3}}, "data.augment.erasing=3: expected keys with values"),
        ({"sampling": "often"}, "data.sampling='often': expected one of rate, segments"),
        ({"smoothing": "much"}, "data.smoothing='much': expected a number"),
        ([3], "data=[3]: expected keys with values"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        typed_settings(given, KINDS, "data")
    assert str(caught.value).startswith(message)
