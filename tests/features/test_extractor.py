"""Features equal those of clips made by hand, however the video is read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import mvit_video as mv
from mvit_video.data.clips.protocols import published_short_side
from mvit_video.data.clips.transforms import Normalize, crop_views
from mvit_video.features import Extractor, ExtractSettings, Video, decoding, extract
from mvit_video.features.decoding import read_chunks
from mvit_video.features.extractor import Place
from mvit_video.models import Patch, mvit
from mvit_video.models.net import features_at
from mvit_video.runs.trained_model import load_model
from mvit_video.types import ConfigError, VideoDecodeError

LAYERS = ("pooled", "tokens", "stage1", "stage2", "logits")


@pytest.fixture
def video(digits: Path) -> Path:
    """32 frames of 64x64 at 30 fps."""
    return sorted(digits.glob("val/*/*.mp4"))[0]


def by_hand(net: torch.nn.Module, video: Path, indices: NDArray[np.int64], layer: str, num_crops: int) -> torch.Tensor:
    """Features of clips `(windows, T)` through the pipeline of tests; `(windows, crops, ...)`."""
    with mv.open_video(video, "pyav", short_side=published_short_side(32, num_crops)) as reader:
        wanted, rows = np.unique(indices, return_inverse=True)
        frames = reader.get_frames(wanted)
    short_side = published_short_side(32, num_crops)
    views = crop_views(frames, rows.reshape(indices.shape), 32, short_side, num_crops, Normalize())
    with torch.inference_mode():
        features: Any = net.eval().forward_features(views, stages=True)  # type: ignore[operator]
        found = {
            "pooled": features.embedding, "tokens": features.tokens, "logits": net(views),
            **{f"stage{i + 1}": stage for i, stage in enumerate(features.stages)},
        }[layer]  # fmt: skip
    return found.unflatten(0, (-1, num_crops))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("num_crops", "keep_crops"), [(1, False), (3, False), (3, True)])
def test_features_equal_those_of_clips_made_by_hand(
    tiny_checkpoint: Path, video: Path, layer: Any, num_crops: int, keep_crops: bool
) -> None:
    settings = ExtractSettings(
        str(tiny_checkpoint), layer, "16", "8", num_crops=num_crops, keep_crops=keep_crops, batch_size=5
    )
    extractor = Extractor(settings)
    found = extractor.extract(Video("a", video))
    indices = np.array([[0, 5, 10, 15], [8, 13, 18, 23], [16, 21, 26, 31]])
    expected = by_hand(mv.create_model(checkpoint=tiny_checkpoint), video, indices, layer, num_crops)
    expected = expected if keep_crops else expected.mean(dim=1, keepdim=True)
    assert found.feature.shape[2:] == extractor.feature_shape
    np.testing.assert_allclose(found.feature, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert found.start_frame.tolist() == [0, 8, 16]
    assert found.fps == 30


def test_nothing_depends_on_the_size_of_chunks_and_batches(tiny_checkpoint: Path, video: Path) -> None:
    settings = ExtractSettings(str(tiny_checkpoint), window="7", stride="3", batch_size=64)
    whole = Extractor(settings).extract(Video("a", video))
    single = Extractor(replace(settings, batch_size=1))
    single.rule = replace(single.rule, max_bytes=1)
    found = single.extract(Video("a", video))
    np.testing.assert_allclose(found.feature, whole.feature, rtol=1e-4, atol=1e-5)
    for name in ("start_seconds", "end_seconds", "center_seconds", "start_frame", "end_frame", "num_padded"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


class Counting:
    """A reader that notes what it is asked for."""

    def __init__(self, reader: Any, asked: list[list[int]]) -> None:
        self._reader, self._asked = reader, asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def __enter__(self) -> "Counting":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def get_frames(self, indices: NDArray[np.int64]) -> torch.Tensor:
        self._asked.append(indices.tolist())
        return self._reader.get_frames(indices)


@pytest.mark.parametrize(("window", "stride"), [("16", "4"), ("9", "9"), ("5", "12"), ("0.4s", "0.1s")])
def test_no_frame_is_read_twice_and_chunks_are_bounded(
    tiny_checkpoint: Path, video: Path, monkeypatch: pytest.MonkeyPatch, window: str, stride: str
) -> None:
    asked: list[list[int]] = []
    monkeypatch.setattr(decoding, "open_video", lambda *a, **k: Counting(mv.open_video(*a, **k), asked))
    extractor = Extractor(ExtractSettings(str(tiny_checkpoint), window=window, stride=stride))
    budget = 6
    rule = replace(extractor.rule, max_bytes=budget * 3 * (36 * 36 + 32 * 32))
    chunks = list(read_chunks(Video("a", video), rule))
    order = [index for indices in asked for index in indices]
    assert order == sorted(set(order))
    assert max(map(len, asked)) <= budget
    assert len(chunks) > 1
    # beside the new frames there are those of windows that reach into the chunk
    assert max(len(chunk.frames) for chunk in chunks) <= budget + 16
    whole = next(read_chunks(Video("a", video), extractor.rule))
    rebuilt = np.concatenate([chunk.frames[chunk.rows] for chunk in chunks])
    np.testing.assert_array_equal(rebuilt, whole.frames[whole.rows])


def test_a_part_of_a_video_tells_the_times_of_the_whole(tiny_checkpoint: Path, video: Path) -> None:
    extractor = Extractor(ExtractSettings(str(tiny_checkpoint), window="4", stride="4"))
    whole = extractor.extract(Video("a", video))
    part = extractor.extract(Video("a", video, span=(0.4, 0.8)))
    assert part.start_frame.tolist() == [12, 16, 20]
    assert part.end_frame.tolist() == [16, 20, 24]
    np.testing.assert_allclose(part.start_seconds, whole.start_seconds[3:6])
    np.testing.assert_allclose(part.feature, whole.feature[3:6], rtol=1e-4, atol=1e-5)
    from_bytes = extractor.extract(Video("a", video.read_bytes(), span=(0.4, 0.8)))
    np.testing.assert_array_equal(from_bytes.feature, part.feature)
    with pytest.raises(VideoDecodeError, match="no frame begins between 2 and 3 seconds"):
        extractor.extract(Video("a", video, span=(2, 3)))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_kept_as_such(tiny_checkpoint: Path, video: Path, precision: Any) -> None:
    settings = ExtractSettings(str(tiny_checkpoint), window="16")
    half = Extractor(replace(settings, precision=precision)).extract(Video("a", video)).feature
    full = Extractor(settings).extract(Video("a", video)).feature
    assert (half.dtype, full.dtype) == (np.float16, np.float32)
    np.testing.assert_allclose(half, full, atol=0.05)
    assert not np.array_equal(half, full.astype(np.float16))


def test_the_key_tells_other_weights_and_rules_but_not_other_batches(tiny_checkpoint: Path, tmp_path: Path) -> None:
    settings = ExtractSettings(str(tiny_checkpoint))
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(tiny_checkpoint.read_bytes())
    other = tmp_path / "other.safetensors"
    net = mv.create_model(checkpoint=tiny_checkpoint)
    with torch.no_grad():
        net.norm.bias[0] += 1e-3
    mv.save_checkpoint(net, other)
    key = Extractor(settings).key
    same = [replace(settings, batch_size=1), replace(settings, model=str(copy)), replace(settings, device="cpu")]
    assert {Extractor(each).key for each in same} == {key}
    others = [
        replace(settings, model=str(other)), replace(settings, window="8"), replace(settings, layer="tokens"),
        replace(settings, num_crops=3), replace(settings, num_crops=3, keep_crops=True),
        replace(settings, precision="bf16"), replace(settings, decode_short_side=0),
    ]  # fmt: skip
    assert len({Extractor(each).key for each in others} | {key}) == len(others) + 1


def test_a_damaged_video_is_an_error_with_its_reason(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_bytes(b"no video " * 50)
    with pytest.raises(VideoDecodeError, match="cannot be decoded"):
        Extractor(ExtractSettings(str(tiny_checkpoint))).extract(Video("a", tmp_path / "text.mp4"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": "stage9"}, "layer=stage9 must be one of pooled"),
        ({"num_crops": 2}, "num_crops=2 must be one of 1, 3"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"decode_short_side": 8}, "decode_short_side=8 is below the crop of 32 pixels"),
        ({"device": "tpu"}, "device=tpu must be auto, cpu or cuda"),
        ({"window": "long"}, "window=long: expected frames such as 64, or seconds such as 2.5s"),
        ({"layer": "stage4"}, "layer stage4: the MViT has 2"),
        ({"model": "mvit_b_16x5"}, "source=mvit_b_16x5: neither a file nor a name of a model; did you mean mvit"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(tiny_checkpoint: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Extractor(ExtractSettings(**{"model": str(tiny_checkpoint), **changes}))
    assert str(caught.value).startswith(message)


def test_in_python_each_video_follows_the_other(tiny_checkpoint: Path, video: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(video.read_bytes())
    expected = Extractor(ExtractSettings(str(tiny_checkpoint), window="8", stride="4")).extract(Video("a", video))
    for model in (tiny_checkpoint, load_model(tiny_checkpoint)):
        found = list(extract(tmp_path, model, window=8, stride=4))
        assert [Path(one.video.path).name for one in found] == ["a.mp4", "b.mp4"]
        for one in found:
            np.testing.assert_array_equal(one.feature, expected.feature)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    follow = extract([tmp_path / "a.mp4", str(tmp_path / "b.mp4")], tiny_checkpoint, layer="logits", stride="0.5s")
    assert next(follow).feature.shape[1:] == (1, 3)
    with pytest.raises(VideoDecodeError, match=r"b\.mp4"):
        next(follow)
    with pytest.raises(ConfigError, match="layer=stage9 must be one of"):
        extract(tmp_path, tiny_checkpoint, layer="stage9")  # type: ignore[arg-type]


def test_frames_are_resized_for_a_net_of_images_as_its_test_does(video: Path, tmp_path: Path) -> None:
    net = mvit(num_classes=3, num_frames=1, crop_size=32, depths=(1, 1), embed_dim=8, patch=Patch((1, 8, 8), (1, 8, 8)))
    mv.save_checkpoint(net, tmp_path / "net.safetensors")
    extractor = Extractor(ExtractSettings(str(tmp_path / "net.safetensors"), window="1", stride="16"))
    assert extractor.record["preprocessing"]["interpolation"] == "bicubic"
    needs = extractor.trained.preprocessing
    with mv.open_video(video, "pyav") as reader:
        scale = Normalize(needs.input.mean, needs.input.std)
        expected = crop_views(
            reader.get_frames([0, 16]), np.array([[0], [1]]), 32, needs.short_side(), 1, scale, interpolation="bicubic"
        )
    (chunk,) = read_chunks(Video("a", video), extractor.rule)
    shown = extractor.clips([Place(chunk, 0), Place(chunk, 1)])
    np.testing.assert_allclose(shown.numpy(), expected.numpy(), atol=1e-6)
    found = extractor.extract(Video("a", video))
    with torch.inference_mode():
        np.testing.assert_allclose(
            found.feature[:, 0], features_at(net.eval(), expected, "pooled"), rtol=1e-4, atol=1e-5
        )
