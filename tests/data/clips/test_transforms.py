import random
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms import RandomResizedCropAndInterpolation
from timm.data.transforms_factory import transforms_imagenet_train
from torchvision.transforms import functional as pillow_functional
from torchvision.transforms.v2 import functional as F

from mvit_video.data.clips.transforms import (
    Augment,
    Erasing,
    Normalize,
    augment_clip,
    crop_views,
    random_crop_box,
    resize_frames,
)
from mvit_video.types import ConfigError

PLAIN = Normalize(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))


def random_frames(num_frames: int = 5, height: int = 40, width: int = 60) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_frames, height, width, 3), generator=generator, dtype=torch.uint8)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 2**32))
def test_random_crop_lies_inside_the_frame(height: int, width: int, seed: int) -> None:
    top, left, h, w = random_crop_box(height, width, Augment(), np.random.default_rng(seed))
    assert 0 <= top <= top + h <= height
    assert 0 <= left <= left + w <= width
    assert h > 0
    assert w > 0


def test_random_crops_keep_to_scale_and_aspect() -> None:
    augment = Augment(scale=(0.2, 0.5), aspect=(0.8, 1.25))
    boxes = [random_crop_box(256, 340, augment, np.random.default_rng(seed)) for seed in range(300)]
    area = np.array([h * w / (256 * 340) for _, _, h, w in boxes])
    aspect = np.array([w / h for _, _, h, w in boxes])
    assert area.min() == pytest.approx(0.2, abs=0.01)
    assert area.max() == pytest.approx(0.5, abs=0.01)
    assert aspect.min() == pytest.approx(0.8, abs=0.02)
    assert aspect.max() == pytest.approx(1.25, abs=0.02)


def test_a_frame_too_long_for_the_aspect_falls_back_to_its_centre() -> None:
    box = random_crop_box(10, 400, Augment(scale=(1.0, 1.0)), np.random.default_rng(0))
    assert box == (0, (400 - 13) // 2, 10, 13)


def test_every_frame_of_a_clip_is_treated_alike() -> None:
    frames = random_frames(1).expand(6, -1, -1, -1)
    clip = augment_clip(frames, 32, Augment(), PLAIN, np.random.default_rng(3))
    assert clip.shape == (3, 6, 32, 32)
    assert (clip == clip[:, :1]).all()


def test_flip_mirrors_the_clip() -> None:
    frames = random_frames()
    whole = {"scale": (1.0, 1.0), "aspect": (1.5, 1.5)}
    plain = augment_clip(frames, 32, Augment(flip=0.0, **whole), PLAIN, np.random.default_rng(0))
    mirrored = augment_clip(frames, 32, Augment(flip=1.0, **whole), PLAIN, np.random.default_rng(0))
    assert torch.equal(mirrored, plain.flip(-1))


def test_chance_comes_from_the_generator_alone() -> None:
    frames = random_frames()
    torch.manual_seed(1)
    np.random.seed(1)
    first = augment_clip(frames, 32, Augment(), Normalize(), np.random.default_rng(7))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    np.random.seed(2)
    second = augment_clip(frames, 32, Augment(), Normalize(), np.random.default_rng(7))
    third = augment_clip(frames, 32, Augment(), Normalize(), np.random.default_rng(8))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_normalisation_is_mean_and_std_of_unit_pixels() -> None:
    frames = random_frames(2, 32, 32)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    views = crop_views(frames, np.array([[0, 1]]), 32, 32, 1, Normalize(mean, std))
    expected = (frames / 255 - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(views[0], expected.permute(3, 0, 1, 2))


def test_views_are_clips_times_crops_of_the_resized_frames() -> None:
    frames = random_frames(6, 32, 48)
    clips = np.array([[0, 1, 2, 3], [2, 3, 4, 5]])
    views = crop_views(frames, clips, 32, 32, 3, PLAIN)
    assert views.shape == (6, 3, 4, 32, 32)
    for view, (clip, left) in enumerate((clip, left) for clip in clips for left in (0, 8, 16)):
        expected = frames[clip][:, :, left : left + 32].permute(3, 0, 1, 2).float()
        torch.testing.assert_close(views[view], expected)


@given(st.integers(1, 3), st.integers(4, 90), st.integers(4, 90), st.integers(4, 70))
def test_resized_frames_are_those_of_torchvision(num_frames: int, height: int, width: int, short_side: int) -> None:
    frames = random_frames(num_frames, height, width)
    expected = F.resize(frames.permute(0, 3, 1, 2), [short_side], antialias=True)
    assert torch.equal(resize_frames(frames, short_side), expected.permute(0, 2, 3, 1))


@pytest.mark.parametrize("num_frames", [1, 4])
def test_a_random_crop_is_that_of_torchvision(num_frames: int) -> None:
    frames = random_frames(num_frames, 70, 90)
    for seed in range(20):
        box = random_crop_box(70, 90, Augment(), np.random.default_rng(seed))
        expected = F.resized_crop(frames.permute(0, 3, 1, 2), *box, [32, 32], antialias=True)
        clip = augment_clip(frames, 32, Augment(flip=0.0), PLAIN, np.random.default_rng(seed))
        assert torch.equal(clip, expected.transpose(0, 1).float())


@pytest.mark.parametrize("seed", range(8))
def test_the_image_pipeline_is_timms(seed: int) -> None:
    image, policy = random_frames(1, 90, 120), "rand-m7-n4-mstd0.5-inc1-p1.0"
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    augment, rng = Augment(randaugment=policy, pipeline="image"), np.random.default_rng(seed)
    box, is_flipped, drawn = random_crop_box(90, 120, augment, rng), rng.random() < 0.5, int(rng.integers(2**32))
    timms = transforms_imagenet_train(
        32, hflip=float(is_flipped), auto_augment=policy, interpolation="bicubic", mean=mean, std=std
    )
    random.seed(drawn)
    np.random.seed(drawn)
    with patch.object(RandomResizedCropAndInterpolation, "get_params", return_value=box):
        expected = timms(Image.fromarray(image[0].numpy()))
    found = augment_clip(image, 32, augment, Normalize(mean, std), np.random.default_rng(seed))
    torch.testing.assert_close(found[:, 0], expected)


def test_the_image_pipeline_fills_with_the_mean_colour() -> None:
    white = torch.full((1, 40, 40, 3), 255, dtype=torch.uint8)
    augment = Augment(randaugment="rand-m10-n6-p1", scale=(1.0, 1.0), aspect=(1.0, 1.0))  # operations that keep white
    colours: dict[str, set[tuple[int, ...]]] = {"video": set(), "image": set()}
    with patch("timm.data.auto_augment._RAND_TRANSFORMS", ["TranslateXRel"]):
        for pipeline in ("video", "image"):
            normalize = Normalize((0.485, 0.456, 0.406), (1 / 255, 1 / 255, 1 / 255))
            clip = augment_clip(white, 40, replace(augment, pipeline=pipeline), normalize, np.random.default_rng(0))
            pixels = (clip[:, 0] + 255 * torch.tensor(normalize.mean).view(3, 1, 1)).round().int()
            colours[pipeline] = {tuple(pixel) for pixel in pixels.flatten(1).T.tolist()}
    assert (128, 128, 128) in colours["video"]
    assert (124, 116, 104) in colours["image"]


@given(st.integers(4, 90), st.integers(4, 90), st.integers(4, 70))
def test_bicubic_resizing_is_pillows(height: int, width: int, short_side: int) -> None:
    image = random_frames(1, height, width)
    bicubic = pillow_functional.InterpolationMode.BICUBIC
    expected = pillow_functional.resize(Image.fromarray(image[0].numpy()), [short_side], bicubic)
    assert np.array_equal(resize_frames(image, short_side, "bicubic")[0].numpy(), np.asarray(expected))


def test_short_side_is_resized_before_the_centre_crop() -> None:
    frames = torch.full((2, 64, 128, 3), 90, dtype=torch.uint8)
    assert crop_views(frames, np.array([[0, 1]]), 28, 32, 1, PLAIN).unique().tolist() == pytest.approx([90])


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({"scale": (0.0, 1.0)}, r"augment\.scale .* \[0\.0, 1\.0\]"),
        ({"scale": (0.5, 0.1)}, r"\[0\.5, 0\.1\]"),
        ({"aspect": (2.0, 1.0)}, r"augment\.aspect .* \[2\.0, 1\.0\]"),
        ({"flip": 1.5}, r"augment\.flip .* 1\.5"),
        ({"repeats": 0}, r"augment\.repeats .* 0"),
        ({"pipeline": "picture"}, r"augment\.pipeline must be video or image, got 'picture'"),
    ],
)
def test_impossible_augmentation_is_refused(settings: dict, value: str) -> None:
    with pytest.raises(ConfigError, match=value):
        Augment(**settings)


def test_impossible_normalisation_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"std .* \[0\.0, 1\.0, 1\.0\]"):
        Normalize(std=(0.0, 1.0, 1.0))


def test_randaugment_and_erasing_ride_along() -> None:
    frames = torch.randint(0, 256, (4, 40, 50, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = Augment(scale=(1.0, 1.0), aspect=(1.25, 1.25), flip=0.0)
    erasing = Erasing(probability=1.0)

    def clip(augment: Augment) -> torch.Tensor:
        return augment_clip(frames, 32, augment, Normalize(), np.random.default_rng(5))

    base, erased = clip(plain), clip(replace(plain, erasing=erasing))
    changed = (base != erased).any(dim=0)
    assert 0 < changed.float().mean() < 0.5
    assert (changed == changed[:1]).all()  # one box in all frames
    assert not torch.equal(base, clip(replace(plain, randaugment="rand-m9-n4-p1")))
    with pytest.raises(ConfigError, match=r"augment\.randaugment='strong' is not a policy"):
        Augment(randaugment="strong")
