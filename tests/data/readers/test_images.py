"""Pictures as videos of one frame."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvit_video.data import VideoReader
from mvit_video.data.clips.transforms import Augment
from mvit_video.data.readers.image import ImageReader
from mvit_video.data.settings import InputSpec, LoadingSpec
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import ClipSpec, VideoDecodeError, ViewSpec

pytestmark = [pytest.mark.filterwarnings("ignore:.*does not have many workers")]


def picture(height: int = 48, width: int = 64) -> np.ndarray:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([3 * x, 4 * y, x + y], axis=-1).astype(np.uint8)


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    with ImageReader(tmp_path / "a.png") as reader:
        assert isinstance(reader, VideoReader)
        assert (reader.num_frames, reader.height, reader.width, reader.codec) == (1, 48, 64, "png")
        frames = reader.get_frames([0, 0])
        assert torch.equal(frames, torch.from_numpy(np.stack([picture()] * 2)))
        with pytest.raises(VideoDecodeError, match=r"a\.png: frame 1 is out of range, it has 1 frame"):
            reader.get_frames([1])


def test_orientation_and_palettes(tmp_path: Path) -> None:
    image = Image.fromarray(picture())
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(
        ImageReader(tmp_path / "turned.png").get_frames([0])[0], torch.from_numpy(np.rot90(picture(), -1).copy())
    )
    image.convert("P").save(tmp_path / "palette.png")
    assert ImageReader(tmp_path / "palette.png").get_frames([0]).shape == (1, 48, 64, 3)
    image.convert("CMYK").save(tmp_path / "print.jpg")
    assert ImageReader(tmp_path / "print.jpg").get_frames([0]).shape == (1, 48, 64, 3)


def test_grey_of_sixteen_bits_keeps_its_shades(tmp_path: Path) -> None:
    shades = np.linspace(0, 65535, 48 * 64).astype(np.uint16).reshape(48, 64)
    Image.fromarray(shades).save(tmp_path / "grey.png")
    frame = ImageReader(tmp_path / "grey.png").get_frames([0])[0].numpy()
    assert frame.shape == (48, 64, 3)
    assert np.abs(frame[..., 0].astype(int) - shades / 257).max() <= 1
    assert (frame == frame[..., :1]).all()
    assert (frame.min(), frame.max()) == (0, 255)


def test_a_file_of_another_kind_under_the_name_of_a_picture(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(VideoDecodeError, match=r"a\.png: cannot be read as an image"):
        ImageReader(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "is an empty file"), (b"no picture", "cannot be read as an image"), (None, "no such file")],
)
def test_what_is_no_picture(tmp_path: Path, data: bytes | None, reason: str) -> None:
    if data is not None:
        (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(VideoDecodeError, match=rf"a\.jpg: {reason}"):
        ImageReader(tmp_path / "a.jpg")


def test_a_pipe_is_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(VideoDecodeError, match=r"a\.png: is a pipe"):
        ImageReader(tmp_path / "a.png")


def test_a_truncated_picture(tmp_path: Path) -> None:
    Image.fromarray(picture(200, 200)).save(tmp_path / "whole.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    with pytest.raises(VideoDecodeError, match="truncated"):
        ImageReader(tmp_path / "a.jpg")


@pytest.mark.filterwarnings("ignore:data.train has one class only")
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_view_is_made_from_the_picture_in_its_own_size(tmp_path: Path, split: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    (tmp_path / "cat").mkdir()
    Image.fromarray(noise).save(tmp_path / "cat" / "a.png")
    one_pixel, views = (1 / 120_000, 1 / 120_000), ViewSpec(1, 1, 64, "bicubic")
    augment = Augment(one_pixel, (1.0, 1.0), pipeline="image")
    data = VideoDataModule(
        train=str(tmp_path), val=str(tmp_path), clip=ClipSpec(1, 1), augment=augment,
        views=replace(views, protocol="torchvision"), val_views=views, loading=LoadingSpec(1, num_workers=0),
        input=InputSpec(56, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), decode_short_side=64),
    )  # fmt: skip
    data.setup("fit" if split != "test" else "test")
    clip = next(iter(getattr(data, f"{split}_dataloader")())).clip
    if split == "train":
        pixels = (clip[0, :, 0, 0, 0] * 255).round().int()
        assert (clip == clip[..., :1, :1]).all()
        assert (torch.from_numpy(noise) == pixels).all(dim=-1).any()
    else:
        whole = np.asarray(Image.fromarray(noise).resize((85, 64), Image.Resampling.BICUBIC))
        left = 14 if split == "test" else 15  # (85 - 56) / 2, rounded to even or up
        expected = torch.from_numpy(whole[4:60, left : left + 56].copy()).permute(2, 0, 1) / 255
        torch.testing.assert_close(clip[0, :, 0], expected)


def test_folders_of_pictures_train_and_test(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(picture()).save(tmp_path / split / name / f"{i}.jpg")
    data = VideoDataModule(
        train=str(tmp_path / "train"), val=str(tmp_path / "val"), clip=ClipSpec(1, 1), input=InputSpec(32),
        loading=LoadingSpec(4, num_workers=0), augment=Augment(randaugment="rand-m9-n2"), views=ViewSpec(1, 1, 40),
    )  # fmt: skip
    data.setup("fit")
    data.setup("test")
    batch = next(iter(data.train_dataloader()))
    assert batch.clip.shape == (4, 3, 1, 32, 32)
    assert sorted(batch.label.tolist()) == [0, 0, 1, 1]
    assert {decode.backend for decode in batch.decodes} == {"pillow"}
    expected = torch.from_numpy(picture()).permute(2, 0, 1)
    found = next(iter(data.test_dataloader()))
    assert found.clip.shape == (1, 3, 1, 32, 32)
    mean = float(found.clip[0].mean() * 0.225 + 0.45) * 255
    assert mean == pytest.approx(float(expected.float().mean()), rel=0.1)
