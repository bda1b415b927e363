"""Drawings of README and docs as SVG, each in light and dark colours: `python -m scripts.documentation.drawings`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from mvit_video.data.sampling import clip_span
from mvit_video.models import Pooling, block_table

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"


class Colours(NamedTuple):
    """Colours of one mode."""

    ink: str
    soft: str
    fill: str
    accent: str
    accent_fill: str


LIGHT = Colours("#1f2430", "#6b7280", "#f3f4f8", "#3949ab", "#dfe3fb")
DARK = Colours("#e6e8f0", "#9aa0b0", "#2b2f3b", "#9fa8ff", "#353c6b")


class Drawing:
    """SVG that grows by shapes; lengths in pixels."""

    def __init__(self, width: int, height: int, title: str, colours: Colours) -> None:
        self.colours = colours
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" font-family="system-ui, sans-serif" font-size="15" fill="{colours.ink}">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{colours.soft}"/></marker></defs>',
        ]

    def text(self, x: float, y: float, *lines: str, size: int = 15, soft: bool = False, anchor: str = "middle") -> None:
        """Write lines below each other; `y` is the base of the first."""
        colour = self.colours.soft if soft else self.colours.ink
        for index, line in enumerate(lines):
            self._parts.append(
                f'<text x="{x:g}" y="{y + index * size * 1.3:g}" text-anchor="{anchor}" font-size="{size}" '
                f'fill="{colour}">{escape(line)}</text>'
            )

    def box(
        self, x: float, y: float, width: float, height: float, *, accent: bool = False, hollow: bool = False
    ) -> None:
        """Draw a rectangle with round corners."""
        fill = "none" if hollow else self.colours.accent_fill if accent else self.colours.fill
        line = self.colours.accent if accent else self.colours.soft
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" fill="{fill}" stroke="{line}" '
            f'stroke-width="1.5"/>'
        )

    def line(self, *points: tuple[float, float], tip: bool = True, dashed: bool = False) -> None:
        """Draw a line through points, with a tip at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        end = ' marker-end="url(#tip)"' if tip else ""
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{self.colours.soft}" stroke-width="1.5"{end}{dashes}/>'
        )

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>", ""])


def overview(colours: Colours) -> Drawing:
    """Draw the way from a video to scores and features, and the stages of MViT-B 16x4."""
    drawing = Drawing(960, 420, "From a video to class scores and features; stages of MViT-B 16x4", colours)
    steps = [
        ("video", "MP4, AVI, WebM ..."), ("reader", "exact frames"), ("clips", "16 frames, 4 apart"),
        ("MViT", "logits, features"), ("class scores", "over all views"),
    ]  # fmt: skip
    for index, (name, what) in enumerate(steps):
        x = 20 + 190 * index
        drawing.box(x, 20, 150, 58, accent=name == "MViT")
        drawing.text(x + 75, 45, name, size=18)
        drawing.text(x + 75, 65, what, size=15, soft=True)
        if index:
            drawing.line((x - 38, 49), (x - 4, 49))
    drawing.line((665, 80), (665, 108), (776, 108))
    drawing.box(780, 90, 150, 36)
    drawing.text(855, 113, "features on disk", size=15)

    drawing.text(
        20, 152, "Inside MViT-B 16x4: fewer tokens, more channels from stage to stage", anchor="start", size=18
    )
    drawing.box(20, 205, 130, 130)
    drawing.text(85, 262, "16 x 224 x 224", "pixels, RGB")
    drawing.text(85, 362, "clip", soft=True)
    right = 150
    for index, (blocks, dim, side) in enumerate(_stages()):
        x, size = 220 + 185 * index, 34 + 24 * (4 - index)
        y = 270 - size / 2
        for layer in (2, 1, 0):
            drawing.box(x + 7 * layer, y - 7 * layer, size, size, accent=True)
        drawing.text(x + size / 2, 270 + 5, f"8x{side}x{side}", size=15)
        drawing.text(x + 65, 362, f"{blocks} block{'s' * (blocks > 1)}", f"{dim} channels", soft=True, size=15)
        drawing.line((right + 12, 270), (x - 8, 270))
        right = x + size + 14
    drawing.text(
        480,
        412,
        "8 x 56 x 56 tokens after the cube embedding; each later stage halves height and width",
        soft=True,
        size=15,
    )
    return drawing


def _stages() -> Iterator[tuple[int, int, int]]:
    """Yield blocks, channels of attention, and tokens along a side of each stage of MViT-B."""
    side = 56
    for _, group in groupby(block_table((1, 2, 11, 2), 96, 1, Pooling()), key=lambda block: block.num_heads):
        blocks = list(group)
        side //= blocks[0].stride_q.h
        yield len(blocks), blocks[0].dim, side


def views(colours: Colours) -> Drawing:
    """Draw five clips of a video, each with three crops."""
    drawing = Drawing(900, 330, "Five clips spread over a video, and the three crops of a frame", colours)
    drawing.text(20, 30, "5 clips: where in time", anchor="start", size=16)
    drawing.box(20, 50, 860, 34)
    drawing.text(450, 72, "the video: 10 seconds, 300 frames", size=16, soft=True)
    for index in range(5):
        x = 20 + index * (860 - 860 * 64 / 300) / 4
        width = 860 * 64 / 300
        y = 98 + 26 * (index % 2)
        drawing.box(x, y, width, 22, accent=True)
        drawing.text(x + width / 2, y + 16, f"clip {index + 1}", size=15)
    drawing.text(20, 180, "3 crops: where in the frame", anchor="start", size=16)
    for index, name in enumerate(("left", "centre", "right")):
        x = 20 + 290 * index
        drawing.box(x, 200, 160, 90)
        drawing.box(x + 35 * index, 200, 90, 90, accent=True)
        drawing.text(x + 35 * index + 45, 250, name)
    drawing.text(
        20,
        318,
        "5 clips x 3 crops = 15 views; the score of the video is the mean over its views",
        anchor="start",
        soft=True,
    )
    return drawing


def clip_span_drawing(colours: Colours) -> Drawing:
    """Draw the source frames of a clip of four frames, three apart."""
    num_frames, rate = 4, 3
    span = clip_span(num_frames, rate)
    drawing = Drawing(760, 170, f"A clip of {num_frames} frames, {rate} apart, spans {span} source frames", colours)
    for frame in range(span + 2):
        taken = frame < span and frame % rate == 0
        x = 20 + 60 * frame
        drawing.box(x, 50, 50, 44, accent=taken)
        drawing.text(x + 25, 77, str(frame), soft=not taken)
    drawing.text(20, 32, "source frames of the video", anchor="start", soft=True)
    end = 20 + 60 * span - 10
    drawing.line((20, 112), (20, 122), (end, 122), (end, 112), tip=False)
    drawing.text((20 + end) / 2, 145, f"clip_span({num_frames}, {rate}) = ({num_frames} - 1) x {rate} + 1 = {span}")
    return drawing


def pooling_attention(colours: Colours) -> Drawing:
    """Draw queries, keys and values, each pooled before attention, and the shortcut that is pooled too."""
    drawing = Drawing(900, 360, "Pooling attention: queries, keys and values are pooled before attention", colours)
    drawing.box(20, 130, 110, 60)
    drawing.text(75, 156, "tokens", "8x56x56", size=16)
    for index, (name, size) in enumerate((("q", "8x28x28"), ("k", "8x7x7"), ("v", "8x7x7"))):
        y = 30 + 100 * index
        drawing.line((130, 160), (160, 160), (160, y + 30), (186, y + 30))
        drawing.box(190, y, 90, 60)
        drawing.text(235, y + 35, f"linear {name}", size=16)
        drawing.line((280, y + 30), (326, y + 30))
        drawing.box(330, y, 130, 60, accent=True)
        drawing.text(395, y + 26, f"pool {name}", f"to {size}", size=16)
        drawing.line((460, y + 30), (500, y + 30), (500, 160), (536, 160)) if index != 1 else drawing.line(
            (460, 160), (536, 160)
        )
    drawing.box(540, 125, 120, 70)
    drawing.text(600, 155, "softmax(qkᵀ)v", "8x28x28", size=16)
    drawing.line((660, 160), (726, 160))
    drawing.box(730, 135, 40, 50)
    drawing.text(750, 166, "+", size=20)
    drawing.line((770, 160), (806, 160))
    drawing.box(810, 130, 80, 60)
    drawing.text(850, 156, "tokens", "8x28x28", size=16)
    drawing.line((75, 190), (75, 330), (396, 330), dashed=True)
    drawing.box(400, 305, 150, 46, accent=True)
    drawing.text(475, 333, "max pool skip", size=16)
    drawing.line((550, 330), (750, 330), (750, 189), dashed=True)
    return drawing


def exact(colours: Colours) -> Drawing:
    """Draw frames as they are stored and as they are shown."""
    drawing = Drawing(860, 230, "Frames are stored in another order than they are shown in", colours)
    shown = ["I0", "B1", "B2", "P3", "B4", "B5", "P6"]
    stored = ["I0", "P3", "B1", "B2", "P6", "B4", "B5"]
    for row, (title, names) in enumerate((("stored in the file", stored), ("shown", shown))):
        y = 30 + 100 * row
        drawing.text(20, y + 35, title, anchor="start", soft=True)
        for index, name in enumerate(names):
            drawing.box(190 + 90 * index, y, 60, 56, accent=name == "B4")
            drawing.text(220 + 90 * index, y + 34, name)
    drawing.line((220 + 90 * stored.index("B4"), 88), (220 + 90 * shown.index("B4"), 127))
    drawing.text(
        190,
        215,
        "reader[4] is frame B4, the fifth that is shown, not the fifth that is stored (P6)",
        anchor="start",
        soft=True,
        size=16,
    )
    return drawing


DRAWINGS = {
    "overview": overview,
    "views": views,
    "clip-span": clip_span_drawing,
    "pooling-attention": pooling_attention,
    "exact": exact,
}


def render() -> dict[str, str]:
    """Return every drawing in both modes by file name."""
    modes: Sequence[tuple[str, Colours]] = (("light", LIGHT), ("dark", DARK))
    return {f"{name}-{mode}.svg": str(draw(colours)) for name, draw in DRAWINGS.items() for mode, colours in modes}


if __name__ == "__main__":
    for name, text in render().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
