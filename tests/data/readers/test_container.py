"""PyAV's versions differ; what is read does not."""

import gc
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mvit_video.data.readers import open_video, stream
from mvit_video.data.readers.source import Source
from mvit_video.data.readers.stream import as_fraction, open_container
from mvit_video.data.table.files import VIDEO_SUFFIXES
from mvit_video.types import VideoDecodeError
from tests.fixtures.data import OddVideos


class LaterRational:
    """Stands for the type that PyAV 19 gives: not a `Fraction`, 0/1 or 0/0 where nothing is known."""

    def __init__(self, numerator: int, denominator: int) -> None:
        self.numerator, self.denominator = numerator, denominator


# where FFmpeg would choose another format for the suffix, or none
FORMATS = {
    ".divx": "avi", ".qt": "mov", ".m2t": "mpegts", ".mts": "mpegts", ".mpe": "mpeg", ".rmvb": "rm", ".ogm": "ogg",
    ".ogv": "ogg", ".f4v": "mp4", ".265": "hevc", ".h265": "hevc", ".264": "h264", ".avc": "h264", ".xvid": "avi",
    ".3gpp": "3gp", ".3gp2": "3g2", ".m2p": "mpeg", ".mpv": "mpeg2video", ".mk3d": "matroska", ".mj2": "mov",
    ".tod": "mpegts", ".tp": "mpegts", ".trp": "mpegts",
}  # fmt: skip
SUFFIXES_OF_CODECS = {
    "gif": ".gif", "libvpx": ".ivf .webm .ogv .ogm", "mjpeg": ".mjpeg .mjpg", "mpeg1video": ".m1v",
    "mpeg2video": ".m2v .mpg .mpeg .mpe .vob .mxf .m2p .mpv .wtv", "libx265": ".265 .h265 .hevc", "dvvideo": ".dv",
    "rv20": ".rm .rmvb", "wmv2": ".wmv .asf", "h263": ".3gp .3g2 .3gpp .3gp2",
    "libx264": ".264 .h264 .avc .flv .ts .m2t .mts .m2ts .tod .tp .trp",
}  # fmt: skip
CODECS = {suffix: codec for codec, suffixes in SUFFIXES_OF_CODECS.items() for suffix in suffixes.split()}
SIZES = {"dvvideo": (720, 576), "rv20": (176, 144), "h263": (176, 144)}
PIXELS = {"gif": "rgb8", "mjpeg": "yuvj420p"}


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_every_suffix_in_the_list_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    codec = CODECS.get(suffix, "mpeg4")
    width, height = SIZES.get(codec, (96, 64))
    with av.open(str(path), "w", format=FORMATS.get(suffix)) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, PIXELS.get(codec, "yuv420p")
        stream.codec_context.thread_count = 1
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none:pools=none"}
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 10 * number, np.uint8), format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with open_video(path) as reader:
        assert reader.get_frames([0]).shape == (1, height, width, 3)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (LaterRational(1, 15360), Fraction(1, 15360)),
        (Fraction(30000, 1001), Fraction(30000, 1001)),
        (LaterRational(0, 1), None),
        (LaterRational(0, 0), None),
        (None, None),
    ],
)
def test_a_rational_number_of_any_version(value: Any, expected: Fraction | None) -> None:
    found = as_fraction(value)
    assert found == expected
    assert found is None or type(found) is Fraction


def test_no_argument_is_passed_that_the_installed_version_lacks(
    barcode_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV 19 has no `metadata_errors`, and before it titles that are not UTF-8 need it."""
    given: dict[str, Any] = {}
    av_open = av.open
    monkeypatch.setattr(av, "open", lambda *args, **kwargs: (given.update(kwargs), av_open(*args, **kwargs))[1])
    open_container(Source(str(barcode_video))).close()
    assert ("metadata_errors" in given) == (int(av.__version__.split(".")[0]) < 19)


def test_a_title_that_is_not_utf8(odd_videos: OddVideos, tmp_path: Path) -> None:
    path = tmp_path / "title.mkv"
    with av.open(str(odd_videos("closed_gop"))) as source, av.open(str(path), "w") as output:
        output.metadata["title"] = "TITLE"
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    path.write_bytes(path.read_bytes().replace(b"TITLE", b"\xff\xfeTLE"))
    with open_video(path) as reader:
        assert reader.num_frames == 48


def test_a_reader_that_nobody_closes_lets_its_file_go(barcode_video: Path) -> None:
    """On Python 3.10 too, and before the garbage collector runs."""

    def is_open() -> bool:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return str(barcode_video) in [os.readlink(link) for link in links]

    gc.collect()
    gc.disable()
    try:
        reader = open_video(barcode_video, "pyav")
        reader.get_frames([0, 13])
        assert is_open()
        del reader
        assert not is_open()
    finally:
        gc.enable()


def test_a_slow_machine_opens_what_a_quick_one_does(barcode_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV gives up after a time of day; without CPU time used, it tries again with more."""
    limits: list[float] = []
    av_open = av.open

    def slow_open(*args: Any, timeout: tuple[float, float], **kwargs: Any) -> Any:
        limits.append(timeout[0])
        if timeout[0] < 30:
            raise av.error.ExitError(0, "Immediate exit requested")
        return av_open(*args, timeout=timeout, **kwargs)

    monkeypatch.setattr(av, "open", slow_open)
    open_container(Source(str(barcode_video))).close()
    assert limits == [8, 16, 32]


def test_a_file_that_keeps_the_demuxer_busy_is_refused(barcode_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0])

    def busy_open(*args: Any, **kwargs: Any) -> Any:
        raise av.error.ExitError(0, "Immediate exit requested")

    monkeypatch.setattr(av, "open", busy_open)
    monkeypatch.setattr(stream.time, "thread_time", lambda: next(clock))
    with pytest.raises(VideoDecodeError, match="could not be read in reasonable time"):
        open_container(Source(str(barcode_video)))
