"""The set-up of x264 for whatever is encoded here: the same frames give the same bytes at each run."""

from __future__ import annotations


def x264_options(preset: str, crf: int, *, b_frames: bool = True, **parameters: int | str) -> dict[str, str]:
    """Options of FFmpeg's encoder `libx264`.

    One thread, since the bytes depend on their number. No macroblock tree where there are B-frames: there it reads
    memory that nobody wrote, and the same frames come out differently from run to run (tests/curation/test_x264.py).

    Args:
        crf: constant rate factor, 0 (lossless) to 51.
        parameters: others of x264, such as `keyint`.
    """
    own = {"mbtree": 0} if b_frames else {"bframes": 0}
    text = ":".join(f"{name.replace('_', '-')}={value}" for name, value in (own | parameters).items())
    return {"preset": preset, "crf": str(crf), "threads": "1", "x264-params": text}
