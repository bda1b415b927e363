import itertools
import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mvit_video as mv
from mvit_video.cli import main
from mvit_video.features.classification import Classification, classify_video
from mvit_video.features.extractor import Extractor, ExtractSettings
from mvit_video.features.overlay import write_overlay
from mvit_video.features.timeline import draw_timeline, foremost
from mvit_video.features.videos import Video
from mvit_video.models import mvit
from mvit_video.models.published import TrainingFacts
from mvit_video.types import ConfigError, VideoDecodeError


def make_timeline(
    best: list[int], num_classes: int = 4, *, names: tuple[str, ...] | None = None, k: int = 5
) -> Classification:
    """Windows of two seconds, one second apart; 70 percent for the best class of each."""
    probabilities = np.full((len(best), num_classes), 0.3 / (num_classes - 1), np.float32)
    probabilities[np.arange(len(best)), best] = 0.7
    start = np.arange(len(best), dtype=np.float64)
    return Classification("video.mp4", probabilities, start, start + 2, start + 1, names, k=k)


@pytest.fixture(scope="session")
def video(digits: Path) -> Path:
    return min(digits.glob("val/*/*.mp4"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = mvit(num_classes=6, num_frames=4, crop_size=32, depths=(1, 1), embed_dim=16, num_heads=1)
    torch.nn.init.normal_(net.head.projection.weight, std=3.0)
    file = tmp_path_factory.mktemp("net") / "net.safetensors"
    mv.save_checkpoint(net, file)
    return file


def test_scores_are_sigmoids_where_the_weights_were_trained_so(video: Path, checkpoint: Path, tmp_path: Path) -> None:
    net, path = mv.create_model(checkpoint=checkpoint), tmp_path / "net.safetensors"
    mv.save_checkpoint(net, path, facts=TrainingFacts(activation="sigmoid"))
    shown = []
    for file in (checkpoint, path):
        extractor = Extractor(ExtractSettings(str(file), "logits", "8", "8", keep_crops=True))
        shown.append(classify_video(extractor, Video("digit", video)).probabilities)
        logits = torch.from_numpy(extractor.extract(Video("digit", video)).feature)
        expected = logits.softmax(dim=2) if file == checkpoint else logits.sigmoid()
        np.testing.assert_allclose(shown[-1], expected.mean(dim=1).numpy(), rtol=1e-5)
    assert np.allclose(shown[0].sum(axis=1), 1)
    assert not np.allclose(shown[1].sum(axis=1), 1)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_segments_are_the_runs_of_the_most_probable_class(best: list[int]) -> None:
    timeline = make_timeline(best)
    segments = timeline.segments()
    assert segments[0].start_seconds == 0
    assert segments[-1].end_seconds == len(best) + 1
    assert [one.end_seconds for one in segments[:-1]] == [one.start_seconds for one in segments[1:]]
    classes = [int(one.probabilities.argmax()) for one in segments]
    assert all(one != other for one, other in itertools.pairwise(classes))
    for seconds in np.arange(0, len(best) + 1, 0.25):
        (window,) = timeline.windows_at(np.array([seconds]))
        # the nearest centre has its say, the later one half way between two
        distances = np.abs(timeline.center_seconds - seconds)
        assert window == np.flatnonzero(distances == distances.min())[-1]
        (own,) = (one for one in segments if one.start_seconds <= seconds < one.end_seconds)
        assert int(own.probabilities.argmax()) == best[window]


def test_the_foremost_classes_are_those_that_last_longest() -> None:
    assert foremost(make_timeline([2, 2, 1, 1, 1, 0, 2, 2]), 2) == [2, 1]
    assert foremost(make_timeline([3]), 10)[0] == 3


def test_probabilities_are_the_mean_softmax_of_the_crops_whatever_the_chunks(video: Path, checkpoint: Path) -> None:
    extractor = Extractor(ExtractSettings(str(checkpoint), "logits", "8", "3", 3, keep_crops=True, batch_size=6))
    asked = Video("digit", video)
    expected = extractor.extract(asked)
    reached: list[tuple[float, float]] = []
    timeline = classify_video(extractor, asked, reached=lambda *seconds: reached.append(seconds))
    probabilities = torch.from_numpy(expected.feature).softmax(dim=-1).mean(dim=1).numpy()
    np.testing.assert_allclose(timeline.probabilities, probabilities, atol=1e-7)
    assert len(np.unique(probabilities.argmax(axis=1))) > 1
    for name in ("start_seconds", "end_seconds", "center_seconds"):
        np.testing.assert_array_equal(getattr(timeline, name), getattr(expected, name))
    assert reached[-1] == (expected.end_seconds[-1], pytest.approx(32 / 30))
    assert len(reached) == -(-len(probabilities) // 2)
    extractor.rule = replace(extractor.rule, max_bytes=1)
    np.testing.assert_allclose(classify_video(extractor, asked).probabilities, probabilities, atol=1e-6)


@pytest.fixture
def damaged(video: Path, tmp_path: Path) -> Path:
    """The bytes of frames 14 to 17 of the 32 are zero."""
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(video.read_bytes())
    for packet in packets[14:18]:
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    (tmp_path / "damaged.mp4").write_bytes(data)
    return tmp_path / "damaged.mp4"


@pytest.mark.parametrize("max_bytes", [2**28, 1])
def test_what_precedes_and_follows_damage_is_classified(
    video: Path, damaged: Path, checkpoint: Path, max_bytes: int
) -> None:
    extractor = Extractor(ExtractSettings(str(checkpoint), "logits", "4", "4"))
    extractor.rule = replace(extractor.rule, max_bytes=max_bytes)
    whole = classify_video(extractor, Video("whole", video))
    timeline = classify_video(extractor, Video("damaged", damaged))
    lost = np.isin(whole.start_seconds, [one.start_seconds for one in timeline.unread])
    assert 0 < lost.sum() < len(lost)
    assert lost[14 // 4]
    assert "frame" in timeline.unread[0].reason
    np.testing.assert_array_equal(timeline.start_seconds, whole.start_seconds[~lost])
    np.testing.assert_allclose(timeline.probabilities[:3], whole.probabilities[:3], atol=1e-6)
    assert not any(
        one.start_seconds < gap.end_seconds and gap.start_seconds < one.end_seconds
        for one in timeline.segments()
        for gap in timeline.unread
    )
    assert timeline.record()["unread"][0]["start_seconds"] == timeline.unread[0].start_seconds


def test_the_verb_says_what_it_has_not_seen(
    damaged: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", str(damaged), "--model", str(checkpoint), "--window", "4", "--json"]) == 0
    told = capsys.readouterr()
    assert f"warning: {damaged}: " in told.err
    assert "of 8 windows do not decode and are missing: 0:00:00." in told.err
    assert len(json.loads(told.out)["windows"]) + len(json.loads(told.out)["unread"]) == 8


def test_other_layers_and_logits_that_are_not_finite_are_refused(
    video: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="classes follow from the layer logits, got pooled"):
        classify_video(Extractor(ExtractSettings(str(checkpoint))), Video("a", video))
    extractor = Extractor(ExtractSettings(str(checkpoint), "logits"))
    monkeypatch.setattr(extractor, "features_of", lambda places: np.full((len(places), 1, 6), np.nan))
    with pytest.raises(VideoDecodeError, match=r"digit\.mp4: its logits are NaN or infinite; try another precision"):
        classify_video(extractor, Video("digit.mp4", video))


def test_the_record_names_the_most_probable_classes() -> None:
    record = make_timeline([1, 1, 0], 3, names=("run", "sit", "jump"), k=2).record()
    assert [(one["start_seconds"], one["end_seconds"], one["top"][0]["name"]) for one in record["segments"]] == [
        (0, 2.5, "sit"), (2.5, 4, "run"),
    ]  # fmt: skip
    assert [one["class"] for one in record["overall"]] == [1, 0]
    assert record["overall"][0]["probability"] == pytest.approx((0.7 + 0.7 + 0.15) / 3)
    assert [one["center_seconds"] for one in record["windows"]] == [1, 2, 3]
    assert make_timeline([2]).record()["overall"][0]["name"] == "class 2"


def test_a_classification_prints_its_classes_and_their_times() -> None:
    found = make_timeline([1, 1, 0], 3, names=("run", "sit", "jump\n"), k=2)
    assert str(found).splitlines() == [
        "video.mp4", "   51.7 %  sit", "   33.3 %  run", "segments (2)",
        "  0:00:00.00 to 0:00:02.50  sit 70.0 %, run 15.0 %", "  0:00:02.50 to 0:00:04.00  run 70.0 %, sit 15.0 %",
    ]  # fmt: skip
    assert repr(found) == "<Classification of 'video.mp4': sit 51.7 %, 3 windows>"
    assert str(make_timeline([2], 3, names=("run", "sit", "jump\n"), k=1)) == "video.mp4\n   70.0 %  jump\\n"


def test_mv_classify_is_the_verb_in_python(video: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = mv.classify(video, mv.load_model(checkpoint), k=2, window=8, stride="4")
    assert main(["classify", str(video), "--model", str(checkpoint), "--window", "8", "--stride", "4", "-k", "2"]) == 0
    assert capsys.readouterr().out == f"{found}\n"
    with pytest.raises(ConfigError, match=r"videos=.*: names 8 videos; give one"):
        mv.classify(video.parents[1], checkpoint)


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--overlay", "shown.avi", "shown.avi: is written as .mp4; give a name that ends so"),
        ("--timeline", "video.mp4", "video.mp4: is written as .png; give a name that ends so"),
        ("--overlay", "file/shown.mp4", "file is not a folder"),
        ("--timeline", "folder.png", "is a folder; give the name of a file in it"),
    ],
)
def test_a_file_that_cannot_be_written_is_named_before_the_work(
    video: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], option: str, name: str, message: str,
) -> None:  # fmt: skip
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr("mvit_video.features.classification.classify_video", None)
    assert main(["classify", str(video), "--model", str(checkpoint), option, f"{tmp_path}/{name}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {option} {tmp_path}")
    assert message in error
    assert error.count("\n") == 1


def test_the_verb_prints_a_table_or_json_and_writes_pictures(
    video: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["classify", str(video), "--model", str(checkpoint), "--window", "8", "--stride", "4", "-k", "2"]
    overlay, picture = tmp_path / "new" / "shown.mp4", tmp_path / "shown.png"
    assert main([*words, "--overlay", str(overlay), "--timeline", str(picture), "--rows", "1"]) == 0
    text = capsys.readouterr().out
    assert "0:00:00.00" in text
    assert f"{overlay}  32 frames, without sound" in text
    assert f"{picture}" in text
    assert "--rows or --json gives them" in text
    with Image.open(picture) as image:
        assert image.size[0] > 800
    with mv.open_video(overlay) as reader:
        assert reader.num_frames == 32
    assert main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["windows"]) == 7
    assert {len(one["top"]) for one in record["windows"]} == {2}
    assert record["segments"][-1]["end_seconds"] == pytest.approx(32 / 30)


def test_names_of_any_kind_are_drawn(video: Path, tmp_path: Path) -> None:
    timeline = make_timeline([0, 1, 2], names=(r"$\frac{$", "_two\nlines", "long " * 200))
    draw_timeline(timeline, tmp_path / "shown.png")
    write_overlay(video, timeline, tmp_path / "shown.mp4", reached=lambda _: None)


def test_the_picture_shows_the_classes_in_their_colours(tmp_path: Path) -> None:
    file = tmp_path / "shown.png"
    draw_timeline(make_timeline([0, 0, 0, 1, 1, 2], names=("run", "sit", "jump", "fall")), file)
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert list(tmp_path.iterdir()) == [file]
    # a row through the band: the colours of the three classes in their order and share
    row = next(row for row in pixels[::-1] if (row == (0, 0x72, 0xB2)).all(axis=1).sum() > 100)
    widths = [(row == colour).all(axis=1).sum() for colour in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0), (0, 0x9E, 0x73))]
    assert np.array(widths) / sum(widths) == pytest.approx([3.5 / 7, 2 / 7, 1.5 / 7], abs=0.02)


def test_a_folder_is_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", str(tmp_path), "--model", "mvit_b_16x4"]) == 2
    assert capsys.readouterr().err == f"error: VIDEO {tmp_path}: a folder; give one video file\n"
