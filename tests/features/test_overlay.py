from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import mvit_video as mv
from mvit_video.features.classification import Classification
from mvit_video.features.overlay import COLOURS, _clock, _fixed_rows, write_overlay
from mvit_video.types import ConfigError, VideoDecodeError

WIDTH, HEIGHT, FPS = 96, 64, 10


def encode(file: Path, times: list[int], *, audio: str | None = None, rotation: int = 0) -> Path:
    """Frames that grow brighter, at these times in hundredths of a second; with sound as long, if a codec is given."""
    with av.open(str(file), "w") as output:
        stream = output.add_stream("libx264", FPS, options={"crf": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 100)
        if rotation:
            stream.set_display_rotation(rotation)
        sound = None if audio is None else output.add_stream(audio, 48_000, layout="mono")
        for number, time in enumerate(times):
            shade = np.full((HEIGHT, WIDTH, 3), 40 + 10 * number, np.uint8)
            shade[: HEIGHT // 2, : WIDTH // 2] = 0
            frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if sound is not None:
            wave = np.sin(np.arange(48_000 * times[-1] // 100) / 20).astype(np.float32)[None]
            for start in range(0, wave.shape[1] - 1024, 1024):
                piece = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave[:, start : start + 1024]), format="fltp", layout="mono"
                )
                piece.sample_rate, piece.pts, piece.time_base = 48_000, start, Fraction(1, 48_000)
                output.mux(sound.encode(piece))
            output.mux(sound.encode(None))
    return file


def make_timeline(best: list[int], seconds: float, names: tuple[str, ...] | None = None) -> Classification:
    probabilities = np.full((len(best), 3), 0.1, np.float32)
    probabilities[np.arange(len(best)), best] = 0.8
    edges = np.linspace(0, seconds, len(best) + 1)
    return Classification("video", probabilities, edges[:-1], edges[1:], (edges[1:] + edges[:-1]) / 2, names)


def read(file: Path) -> tuple[list[float], np.ndarray]:
    """Seconds and pictures."""
    with av.open(str(file)) as container:
        frames = list(container.decode(video=0))
        return [float(frame.time or 0) for frame in frames], np.stack(
            [one.to_ndarray(format="rgb24") for one in frames]
        )


def heard(file: Path) -> tuple[list[float], np.ndarray]:
    """Seconds and samples of the sound."""
    with av.open(str(file)) as container:
        frames = list(container.decode(audio=0))
        return [float(one.time or 0) for one in frames], np.concatenate([one.to_ndarray() for one in frames], axis=1)


def colour(text: str) -> np.ndarray:
    return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)])


@pytest.mark.parametrize("times", [list(range(0, 200, 10)), [0, 10, 15, 60, 61, 62, 120, 199]])
def test_every_frame_keeps_its_time_above_a_panel_of_its_moment(tmp_path: Path, times: list[int]) -> None:
    source, target = encode(tmp_path / "in.mp4", times), tmp_path / "out.mp4"
    reached: list[float] = []
    written = write_overlay(source, make_timeline([0, 1], 2.0), target, reached=reached.append)
    assert written == (len(times), False)
    seconds, pictures = read(target)
    assert seconds == pytest.approx([time / 100 for time in times], abs=1e-4)
    assert reached == pytest.approx([time / 100 for time in times])
    height, width = pictures.shape[1:3]
    assert (width, height > 360) == (540, True)
    for number, (time, picture) in enumerate(zip(times, pictures, strict=True)):
        # upright and in order
        assert picture[300, 400].mean() == pytest.approx(40 + 10 * number, abs=4)
        assert picture[60, 60].mean() < 8
        strip = picture[-8:].mean(axis=0)
        for column, own in ((70, COLOURS[0]), (470, COLOURS[1])):
            if abs(time / 200 * width - column) > 12:
                assert strip[column] == pytest.approx(colour(own), abs=14)
        # the cursor stands where the time is
        assert abs(int(strip.min(axis=1).argmax()) - time / 200 * (width - 3)) <= 4
        # the bar of the most probable class has its colour
        panel = picture[364:-24].astype(int)
        is_first = (np.abs(panel - colour(COLOURS[int(time >= 100)])).max(axis=2) < 30).sum()
        assert is_first > 2 * (np.abs(panel - colour(COLOURS[int(time < 100)])).max(axis=2) < 30).sum()


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_pictures_are_turned_upright(tmp_path: Path, rotation: int) -> None:
    source = encode(tmp_path / "in.mp4", [0, 10], rotation=rotation)
    write_overlay(source, make_timeline([0], 0.2), tmp_path / "out.mp4", reached=lambda _: None)
    with mv.open_video(source) as reader:
        upright = reader.get_frames([0])[0].numpy()
    picture = read(tmp_path / "out.mp4")[1][0]
    scale = picture.shape[1] / upright.shape[1]
    for row in range(8, len(upright), 16):
        for column in range(8, upright.shape[1], 16):
            shown = picture[round((row + 0.5) * scale), round((column + 0.5) * scale)]
            assert shown == pytest.approx(upright[row, column], abs=6)


@pytest.mark.parametrize(("name", "codec", "is_copied"), [("in.mp4", "aac", True), ("in.mkv", "pcm_s16le", False)])
def test_sound_is_copied_where_mp4_can_hold_it(tmp_path: Path, name: str, codec: str, is_copied: bool) -> None:
    source, target = encode(tmp_path / name, list(range(0, 200, 10)), audio=codec), tmp_path / "out.mp4"
    assert write_overlay(source, make_timeline([0], 2.0), target, reached=lambda _: None).has_sound is is_copied
    with av.open(str(target)) as container:
        assert len(container.streams.audio) == int(is_copied)
    if is_copied:
        before, after = heard(source), heard(target)
        assert before[0] == after[0]
        np.testing.assert_array_equal(before[1], after[1])


def test_a_long_name_is_cut_where_the_bar_begins(tmp_path: Path) -> None:
    source = encode(tmp_path / "in.mp4", [0, 10])
    for name in ("x", "a very long name of a class " * 10):
        write_overlay(
            source, make_timeline([0], 0.2, (name, "b", "c")), tmp_path / f"{len(name)}.mp4", reached=lambda _: None
        )
    short, long = (read(tmp_path / f"{number}.mp4")[1][0] for number in (1, 280))
    bars = np.s_[364:-20, 236:]
    np.testing.assert_allclose(short[bars].astype(int), long[bars].astype(int), atol=40)
    assert (long[364:390, 60:220].mean(axis=2) > 150).sum() > 4 * (short[364:390, 60:220].mean(axis=2) > 150).sum()


def test_a_class_keeps_its_row_while_it_is_shown(tmp_path: Path) -> None:
    probabilities = np.array([[5, 3, 1, 0], [3, 5, 0, 1], [0, 1, 3, 5], [5, 0, 3, 1]], np.float32)
    assert _fixed_rows(probabilities, 2).tolist() == [[0, 1], [0, 1], [3, 2], [0, 2]]
    assert _fixed_rows(probabilities, 1).tolist() == [[0], [1], [3], [0]]
    source, target = encode(tmp_path / "in.mp4", list(range(0, 200, 10))), tmp_path / "out.mp4"
    write_overlay(source, make_timeline([0, 1], 2.0), target, reached=lambda _: None)
    _, images = read(target)
    rows = [slice(364 + 22 * i + 4, 364 + 22 * i + 26) for i in range(2)]
    for row, own in zip(rows, COLOURS[:2], strict=True):
        lengths = [(np.abs(image[row].astype(int) - colour(own)).max(axis=2) < 40).sum() for image in images]
        shares = np.array(lengths) / max(lengths)
        is_best = np.arange(20) < 10 if own == COLOURS[0] else np.arange(20) >= 10
        np.testing.assert_allclose(shares, np.where(is_best, 1, 1 / 8), atol=0.08)


def test_the_clock() -> None:
    assert [_clock(seconds) for seconds in (0, 0.96, 59.96, 61.26, 3599.99, 36_000.04)] == [
        "0:00.0", "0:01.0", "1:00.0", "1:01.3", "1:00:00.0", "10:00:00.0",
    ]  # fmt: skip


def test_what_precedes_and_follows_damage_is_drawn_at_its_time(tmp_path: Path) -> None:
    source = encode(tmp_path / "video.mp4", list(range(0, 200, 10)))
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(source.read_bytes())
    for packet in packets[8:11]:
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    source.write_bytes(data)
    with pytest.warns(UserWarning, match=r"video\.mp4: the overlay misses frames \("):
        drawn = write_overlay(source, make_timeline([0, 1], 2.0), tmp_path / "shown.mp4", reached=lambda _: None)
    seconds, _ = read(tmp_path / "shown.mp4")
    assert drawn.num_frames == len(seconds)
    # the codec may hold back some frames before it meets the damage, and conceal some of it
    kept = [0.1 * number for number in range(20) if not 8 <= number < 11]
    assert len(kept) <= len(seconds) < 20
    np.testing.assert_allclose(np.array(seconds)[[0, 7, -1]], [0, 0.7, 1.9], atol=1e-3)
    assert all(np.abs(np.array(seconds) - time).min() < 1e-3 for time in kept)


def test_a_target_that_cannot_be_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    source, timeline = encode(tmp_path / "in.mp4", [0, 10]), make_timeline([0], 0.2)
    with pytest.raises(ConfigError, match=r"--overlay .*out\.avi: is written as \.mp4; give a name"):
        write_overlay(source, timeline, tmp_path / "out.avi", reached=lambda _: None)
    with pytest.raises(ConfigError, match=r"--overlay .*in\.mp4 is the video itself; give another file"):
        write_overlay(source, timeline, source, reached=lambda _: None)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"--overlay .*out\.mp4: cannot be written"):
        write_overlay(source, timeline, tmp_path / "file" / "out.mp4", reached=lambda _: None)
    (tmp_path / "none.mp4").write_bytes(b"no video")
    with pytest.raises(VideoDecodeError, match=r"none\.mp4: "):
        write_overlay(tmp_path / "none.mp4", timeline, tmp_path / "out.mp4", reached=lambda _: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "in.mp4", "none.mp4"]


def test_a_real_video_keeps_its_frames_and_sound(real_videos: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    written = write_overlay(
        real_videos / "mma_test.avi", make_timeline([0, 2, 1], 6.56), target, reached=lambda _: None
    )
    assert written == (164, True)
    seconds, pictures = read(target)
    assert seconds == pytest.approx(np.arange(164) / 25, abs=1e-3)
    with av.open(str(real_videos / "mma_test.avi")) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in (0, 100):
                expected = frame.reformat(480, 360, "rgb24").to_ndarray().astype(int)
                assert np.abs(pictures[number, :360].astype(int) - expected).mean() < 6
