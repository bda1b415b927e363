"""An image of tested videos: strips of frames with label and prediction."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mvit_video.data import VideoReader, open_video
from mvit_video.data.clips.trimming import trim
from mvit_video.data.readers.image import ImageReader
from mvit_video.data.table.files import is_image
from mvit_video.jobs import atomic_write
from mvit_video.runs.predictions import load_predictions
from mvit_video.types import MVitVideoError, VideoDecodeError

FRAME_SIZE, GAP, MARGIN, LINE_HEIGHT = (512, 128), 4, 24, 26
BACKGROUND, INK, GREY, GREEN, RED = "#ffffff", "#1b1f24", "#6e7781", "#1a7f37", "#cf222e"


class Row(NamedTuple):
    """A scored video.

    Attributes:
        labels: its classes; none where unknown.
    """

    path: str
    labels: list[int]
    prediction: int
    probabilities: NDArray[np.float32]


def write_gallery(predictions: str | Path, output: str | Path, *, num_videos: int = 8, num_frames: int = 8) -> None:
    """Draw videos of a test as strips of frames, up to half of them mistakes.

    Args:
        predictions: a `predictions.parquet`, which says where its videos are.
        output: PNG file to write.
        num_frames: frames of each video.

    Raises:
        MVitVideoError: no video has a score.
        VideoDecodeError: a video can no longer be read.
    """
    found = load_predictions(predictions)
    rows = [
        Row(found.keys[i][0], found.labels[i], int(found.prediction[i]), probabilities)
        for i, probabilities in zip(found.scored.nonzero()[0], found.probabilities, strict=True)
    ]
    if not rows:
        raise MVitVideoError(f"{predictions}: no video of this test has a score")
    strips = []
    for row in choose(rows, num_videos):
        path = Path(found.metadata.get("root", "")) / row.path
        if not path.exists():
            raise VideoDecodeError(path, "the video is no longer where the test found it")
        strips.append(draw_strip(read_frames(path, num_frames, FRAME_SIZE), row, found.class_names))
    image = Image.new(
        "RGB", (max(s.width for s in strips) + 2 * MARGIN, sum(s.height + MARGIN for s in strips) + MARGIN), BACKGROUND
    )
    top = MARGIN
    for strip in strips:
        image.paste(strip, (MARGIN, top))
        top += strip.height + MARGIN
    with atomic_write(Path(output)) as unfinished:
        image.save(unfinished, format="PNG")


def read_frames(
    source: Path | bytes, num_frames: int, size: tuple[int, int], span: tuple[float, float] | None = None
) -> list[Image.Image]:
    """Return frames at equal distances of a video, or of a part of it, scaled to fit into a size.

    Args:
        source: where the video or image lies, or the bytes of a video.
        size: largest width and height in pixels; one of them is reached.
        span: start and end of the part in seconds.

    Raises:
        VideoDecodeError: the video cannot be read.
    """
    with _open(source) as whole:
        reader = whole if span is None else trim(whole, *span, source if isinstance(source, Path) else "the video")
        wanted = np.unique(np.linspace(0, reader.num_frames - 1, num_frames).round().astype(int))
        frames = np.asarray(reader.get_frames(wanted))
    return [ImageOps.contain(Image.fromarray(frame), size, Image.Resampling.LANCZOS) for frame in frames]


def _open(source: Path | bytes) -> VideoReader:
    if isinstance(source, Path) and is_image(source):
        return ImageReader(source)
    return open_video(source)


def choose(rows: list[Row], num_videos: int) -> list[Row]:
    """Choose rows at equal distances, up to half of them wrong, the rest right or without a label."""
    wrong = [row for row in rows if _is_wrong(row)]
    right = [row for row in rows if not _is_wrong(row)]
    num_wrong = min(len(wrong), max(num_videos // 2, num_videos - len(right)))
    return _spread(right, num_videos - num_wrong) + _spread(wrong, num_wrong)


def draw_strip(frames: list[Image.Image], row: Row, names: list[str] | None) -> Image.Image:
    """Draw a video: prediction and label above its frames, a bar in the colour of the verdict to their left."""
    labels = row.labels
    colour = RED if _is_wrong(row) else GREEN if labels else INK
    bold, plain = ImageFont.load_default(size=17), ImageFont.load_default(size=14)
    left = 12
    width = left + len(frames) * (frames[0].width + GAP)
    verdict = f"{_name(row.prediction, names)}  {100 * row.probabilities[row.prediction]:.1f}%"
    if _is_wrong(row):
        own = ", ".join(f"{_name(label, names)}  {100 * row.probabilities[label]:.1f}%" for label in labels)
        verdict += f"   instead of {own}"
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    path_start = left + measure.textlength(verdict, font=bold) + 20
    width = int(max(width, path_start + measure.textlength(row.path, font=plain)))
    strip = Image.new("RGB", (width, LINE_HEIGHT + frames[0].height), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    baseline = LINE_HEIGHT - 8
    draw.text((left, baseline), verdict, fill=colour, font=bold, anchor="ls")
    draw.text((path_start, baseline), row.path, fill=GREY, font=plain, anchor="ls")
    draw.rectangle((0, 0, 4, strip.height), fill=colour)
    for i, frame in enumerate(frames):
        strip.paste(frame, (left + i * (frame.width + GAP), LINE_HEIGHT))
    return strip


def _is_wrong(row: Row) -> bool:
    return bool(row.labels) and row.prediction not in row.labels


def _spread(rows: list[Row], count: int) -> list[Row]:
    count = min(count, len(rows))
    return [rows[int(i)] for i in np.linspace(0, len(rows) - 1, count).round()] if count else []


def _name(label: int, names: list[str] | None) -> str:
    return names[label] if names is not None else f"class {label}"
