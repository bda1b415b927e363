from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from mvit_video.data import VideoDataset, VideoReader, VideoTable, open_video
from mvit_video.data.clips.transforms import Normalize
from mvit_video.data.clips.trimming import trim
from mvit_video.data.clips.views import UniformViews
from mvit_video.types import ClipSpec, VideoDecodeError, ViewSpec
from tests.fixtures.data import Barcodes, OddVideos


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_a_segment_is_a_video_of_its_own(barcode_video: Path, barcodes: Barcodes, backend: str) -> None:
    with open_video(barcode_video, backend) as whole:  # type: ignore[arg-type]
        segment = trim(whole, 0.4, 1.0, barcode_video)
        assert isinstance(segment, VideoReader)
        assert (segment.num_frames, segment.fps, segment.height, segment.width) == (18, 30, 64, 96)
        assert segment.duration_seconds == pytest.approx(0.6)
        assert segment.timestamps == pytest.approx(np.arange(18) / 30)
        assert barcodes(segment.get_frames([17, 0, 3])) == [29, 12, 15]
        assert segment.get_frames([]).shape == (0, 64, 96, 3)
        assert (segment.backend, segment.backend_reason) == (whole.backend, whole.backend_reason)
        assert (segment.codec, segment.container, segment.damaged) == (whole.codec, whole.container, False)


def test_time_stamps_decide_at_a_variable_rate(odd_videos: OddVideos, barcodes: Barcodes) -> None:
    with open_video(odd_videos("variable_rate")) as whole:
        begins = whole.timestamps
        segment = trim(whole, begins[10], begins[20], "v.mp4")
        assert barcodes(segment.get_frames(np.arange(segment.num_frames))) == list(range(10, 20))
        assert segment.duration_seconds == pytest.approx(begins[20] - begins[10])
        last = trim(whole, begins[40], float("inf"), "v.mp4")
        assert last.num_frames == 8
        assert last.duration_seconds == pytest.approx(whole.duration_seconds - begins[40])


@pytest.mark.parametrize(("start", "end"), [(2.0, 3.0), (0.51, 0.52), (0.8, 0.2), (-2.0, -1.0)])
def test_a_segment_without_a_frame_says_where_it_was_sought(barcode_video: Path, start: float, end: float) -> None:
    with open_video(barcode_video) as whole:
        message = rf"closed\.mp4: no frame begins between {start:g} and {end:g} seconds of its 1\.6"
        with pytest.raises(VideoDecodeError, match=message):
            trim(whole, start, end, barcode_video)


@pytest.mark.parametrize("index", [-1, 18])
def test_frames_outside_of_the_segment_are_refused(barcode_video: Path, index: int) -> None:
    segment = trim(open_video(barcode_video), 0.4, 1.0, "a.mp4")
    with pytest.raises(VideoDecodeError, match=rf"a\.mp4: frame {index} is out of range.*18 frames"):
        segment.get_frames([0, index])
    segment.close()
    with pytest.raises(VideoDecodeError, match="closed"):
        segment.get_frames([0])


def test_rows_with_a_span_show_that_part(barcode_video: Path) -> None:
    spans = np.array([[0.2, 0.4], [np.nan, np.nan], [1.2, np.inf], [5.0, 6.0]])
    paths = pa.array([barcode_video.name] * len(spans))
    table = VideoTable(paths, np.zeros(len(spans), np.int64), None, barcode_video.parent, spans=spans)
    plain = Normalize(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
    views = UniformViews(ClipSpec(2, 3), 64, ViewSpec(2, 3), plain)
    dataset = VideoDataset(table, views, on_error="skip")

    def lower_bits(row: int) -> list[list[int]]:
        bars = dataset[row].clip[::3, :, :, 16, 6:60:12].mean(dim=1) > 128  # the left crop shows five bars
        return (bars * 2 ** torch.arange(5)).sum(dim=-1).tolist()

    assert lower_bits(0) == [[6, 11], [6, 11]]
    assert lower_bits(1) == [[0, 5], [42 % 32, 47 % 32]]
    assert lower_bits(2) == [[36 % 32, 41 % 32], [42 % 32, 47 % 32]]
    failure = dataset[3].failure
    assert failure is not None
    assert failure.reason.startswith("no frame begins between 5 and 6 seconds")
