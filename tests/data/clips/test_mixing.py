from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.data.mixup import Mixup
from torch.nn import functional as F

from mvit_video.data.clips.mixing import Mixing, cutmix_, cutmix_box, mixup_
from mvit_video.types import ConfigError


def batch(size: int = 6, num_frames: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(size, 3, num_frames, 8, 10, generator=generator)
    label = torch.arange(size) % 4
    return clip, label, F.one_hot(label, 4).float()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixup_is_timms_in_every_frame(share: float) -> None:
    clip, label, target = batch()
    mixed, soft = mixup_(clip.clone(), target, share)
    timms = Mixup(mixup_alpha=1.0, cutmix_alpha=0.0, label_smoothing=0.0, num_classes=4)
    for t in range(clip.shape[2]):
        with patch("timm.data.mixup.np.random.beta", return_value=share):
            frame, expected = timms(clip[:, :, t].clone(), label)
        assert torch.allclose(mixed[:, :, t], frame, atol=1e-6)
        assert torch.allclose(soft, expected)


# shares whose boxes have even sides: an odd side is one pixel longer in timm 1.0.31
@pytest.mark.parametrize(("share", "centre"), [(0.3, (4, 5)), (0.64, (0, 0)), (0.9375, (7, 9)), (0.9975, (3, 3))])
def test_cutmix_is_timms_in_every_frame(share: float, centre: tuple[int, int]) -> None:
    clip, label, target = batch()
    mixed, soft = cutmix_(clip.clone(), target, cutmix_box(8, 10, share, centre))
    timms = Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=4)
    for t in range(clip.shape[2]):
        with (
            patch("timm.data.mixup.np.random.beta", return_value=share),
            patch("timm.data.mixup.np.random.randint", side_effect=centre),
        ):
            frame, expected = timms(clip[:, :, t].clone(), label)
        assert torch.equal(mixed[:, :, t], frame)
        assert torch.allclose(soft, expected)


@given(st.integers(2, 40), st.integers(2, 40), st.floats(0, 1))
def test_boxes_are_twice_the_half_side_rounded_down(height: int, width: int, share: float) -> None:
    sides = [int(length * (1 - share) ** 0.5) // 2 * 2 for length in (height, width)]
    top, bottom, left, right = cutmix_box(height, width, share, (height // 2, width // 2))
    assert [bottom - top, right - left] == sides


def test_the_box_of_a_case_worked_out_by_hand() -> None:
    assert cutmix_box(224, 224, 0.5, (100, 3)) == (21, 179, 0, 82)  # a side of 158
    assert cutmix_box(224, 224, 0.75, (100, 220)) == (44, 156, 164, 224)  # 112
    assert cutmix_box(7, 9, 0.5, (3, 4)) == (1, 5, 1, 7)  # 4 and 6
    assert cutmix_box(9, 11, 0.5, (4, 5)) == (1, 7, 2, 8)  # 6, and 7 as 6


@given(st.floats(0, 2), st.floats(0, 2), st.floats(0, 1), st.floats(0, 1), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_targets_stay_distributions_and_pixels_stay_in_range(
    mixup_alpha: float, cutmix_alpha: float, probability: float, cutmix_share: float, size: int, seed: int
) -> None:
    clip, _, target = batch(size)
    mixing = Mixing(mixup_alpha, cutmix_alpha, probability, cutmix_share)
    mixed, soft = mixing(clip.clone(), target, np.random.default_rng(seed))
    assert torch.allclose(soft.sum(dim=1), torch.ones(size), atol=1e-5)
    assert (soft >= 0).all()
    assert (mixed <= torch.maximum(clip, clip.flip(0)) + 1e-5).all()
    assert (mixed >= torch.minimum(clip, clip.flip(0)) - 1e-5).all()
    again, _ = mixing(clip.clone(), target, np.random.default_rng(seed))
    assert torch.equal(mixed, again)


def test_how_often_each_is_drawn() -> None:
    clip, _, target = batch(2)
    rng, kinds = np.random.default_rng(0), {"none": 0, "cut": 0, "blend": 0}
    for _ in range(600):
        mixed, _ = Mixing(probability=0.75, cutmix_share=0.2)(clip.clone(), target, rng)
        is_own = (mixed == clip).all(dim=1)
        is_partners = (mixed == clip.flip(0)).all(dim=1)
        kind = "none" if is_own.all() else "cut" if (is_own | is_partners).all() else "blend"
        kinds[kind] += 1
    # a cut whose box is empty counts as none
    assert kinds["blend"] / 600 == pytest.approx(0.75 * 0.8, abs=0.06)
    assert kinds["cut"] / 600 == pytest.approx(0.75 * 0.2, abs=0.06)


def test_twins_are_not_mixed_with_each_other() -> None:
    clip = torch.arange(4.0).repeat_interleave(2).view(8, 1, 1, 1, 1).expand(8, 3, 1, 4, 4).clone()  # twins adjacent
    mixed, _ = mixup_(clip.clone(), torch.eye(8), 0.5)
    assert (mixed != clip).all()


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"mixup_alpha": -1}, "mixing.mixup_alpha must be at least 0, got -1"),
        ({"probability": 1.5}, "mixing.probability must be between 0 and 1, got 1.5"),
    ],
)
def test_impossible_settings(setting: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Mixing(**setting)
