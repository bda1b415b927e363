import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data.clips.transforms import Erasing
from mvit_video.types import ConfigError


def test_the_box_is_the_same_in_all_frames_and_holds_noise() -> None:
    clip = torch.zeros(3, 5, 40, 60)
    erased = Erasing(probability=1.0).apply_(clip, np.random.default_rng(1))
    assert erased is clip
    touched = clip != 0
    assert touched.any()
    assert (touched == touched[:1, :1]).all()
    rows, columns = touched[0, 0].any(dim=1).nonzero(), touched[0, 0].any(dim=0).nonzero()
    inside = clip[:, :, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert (inside != 0).all()  # one box, filled
    assert inside.mean().abs() < 0.1
    assert inside.std() == pytest.approx(1, abs=0.1)
    assert not torch.equal(inside[:, 0], inside[:, 1])  # each frame its own noise


@given(st.integers(8, 400), st.integers(8, 400), st.integers(0, 2**32 - 1))
def test_boxes_lie_inside_and_have_the_area_and_aspect_asked_for(height: int, width: int, seed: int) -> None:
    box = Erasing().draw_box(height, width, np.random.default_rng(seed))
    if box is None:
        return
    top, left, h, w = box
    assert 0 <= top <= top + h <= height
    assert 0 <= left <= left + w <= width
    # rounding moves each side by half a pixel
    assert (h - 0.5) * (w - 0.5) <= height * width / 3
    assert (h + 0.5) * (w + 0.5) >= height * width * 0.02
    assert (h - 0.5) / (w + 0.5) <= 1 / 0.3
    assert (h + 0.5) / (w - 0.5) >= 0.3


def test_how_often() -> None:
    rng = np.random.default_rng(0)
    changed = sum(bool(Erasing().apply_(torch.zeros(3, 1, 16, 16), rng).any()) for _ in range(800))
    assert changed / 800 == pytest.approx(0.25, abs=0.05)


def test_impossible_settings() -> None:
    with pytest.raises(ConfigError, match=r"erasing.scale must be 0 < low <= high < 1, got \[0.5, 0.1\]"):
        Erasing(scale=(0.5, 0.1))
