"""Embedded data set: H.264 videos of moving handwritten digits, written by `python -m mvit_video.data.digits`."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from mvit_video.data.readers.stream import x264_options
from mvit_video.jobs import move_into_place, scratch_folder
from mvit_video.types import ConfigError, MVitVideoError

VERSION = 1  # increase it when the same settings give other frames
MANIFEST = "digits.json"
NUM_FRAMES, FPS, SIDE = 32, 30, 64
POOL_SPLIT = 1200  # earlier digit images are for training, later ones for validation
SPLITS = ("train", "val")
_OWN_FILE = re.compile(r"digits\.json|(train|val)(\.csv|/[^/]+/(train|val)_\d{5,}\.mp4)")
# Frames of an 8x4 clip of these videos. They are not equally spaced, so motions are warped to advance by one step from
# each to the next.
SAMPLED_FRAMES = np.linspace(0, NUM_FRAMES - 1, 8).astype(int)


@dataclass(frozen=True)
class Motion:
    """Motion of the digits of a class; reversed time reverses all signs.

    Attributes:
        orbit: clockwise turns around the centre per 8 sampled frames; all odd numbers visit the same 8 places.
        travel: direction `(x, y)` across the frame; y points down.
        growth: 1 grows, -1 shrinks.
        spin: 1 rotates the digit clockwise, -1 counter-clockwise.
    """

    orbit: int = 0
    travel: tuple[int, int] = (0, 0)
    growth: int = 0
    spin: int = 0


# sorted, as class folders and class names in a CSV file
LABEL_SETS: dict[str, dict[str, Motion]] = {
    "orbit": {
        "clockwise_1": Motion(orbit=1),
        "clockwise_3": Motion(orbit=3),
        "counterclockwise_1": Motion(orbit=-1),
        "counterclockwise_3": Motion(orbit=-3),
    },
    "pairs": {
        "down": Motion(travel=(0, 1)),
        "grow": Motion(growth=1),
        "left": Motion(travel=(-1, 0)),
        "right": Motion(travel=(1, 0)),
        "shrink": Motion(growth=-1),
        "turn_clockwise": Motion(spin=1),
        "turn_counterclockwise": Motion(spin=-1),
        "up": Motion(travel=(0, -1)),
    },
}


class Scene(NamedTuple):
    """Content of a video except its motion; lengths in pixels, colours `(3,)` from 0 to 255."""

    digit: NDArray[np.float64]
    centre: NDArray[np.float64]
    size: float
    reach: float
    phase_turns: float
    colour: NDArray[np.float64]
    background: NDArray[np.float64]
    noise: NDArray[np.float32]


class Poses(NamedTuple):
    """Pose of the digit in each frame: `centre (T, 2)` as x, y and `size (T,)` in pixels, `tilt (T,)` in radians."""

    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    tilt: NDArray[np.float64]


def write_digits(
    root: str | os.PathLike[str],
    labels: str = "orbit",
    num_train: int = 800,
    num_val: int = 240,
    seed: int = 0,
    num_workers: int = 2,
) -> Path:
    """Write a label set as videos in class folders, with annotation files, unless it exists.

    The folder has `{train,val}/<class>/<split>_<index>.mp4`, `train.csv` and `val.csv` (columns `path,label`, paths
    relative to the folder) and a manifest of the settings. It is written atomically; a folder with other settings or
    missing videos is replaced. A video depends only on seed, split, index and class.

    Args:
        root: parent of the folder `labels`.
        labels: a key of `LABEL_SETS`; in `orbit`, only the order of frames shows the class; `pairs` is easier to see.
        num_val: validation videos; their digit images are not in training videos.
        num_workers: threads that draw and encode.

    Returns: the folder `root/labels`.

    Raises:
        ConfigError: the label set is unknown, or a number is too small.
        MVitVideoError: scikit-learn is not installed, or the folder has other files.
    """
    if labels not in LABEL_SETS:
        raise ConfigError(f"labels={labels!r} is not a label set; choose one of {', '.join(LABEL_SETS)}")
    if min(num_train, num_val) < (least := len(LABEL_SETS[labels])):
        raise ConfigError(f"num_train={num_train}, num_val={num_val}: {labels!r} needs {least} videos or more in each")
    if seed < 0 or num_workers < 1:
        raise ConfigError(f"seed={seed} must be at least 0 and num_workers={num_workers} at least 1")

    folder = Path(root) / labels
    settings = {"version": VERSION, "labels": labels, "num_train": num_train, "num_val": num_val, "seed": seed}
    if _is_written(folder, settings):
        return folder
    if (foreign := _first_foreign(folder)) is not None:
        raise MVitVideoError(f"{foreign} is not part of the data set to replace; move it or choose another root")
    with scratch_folder(folder.parent, labels) as scratch:
        draft = scratch / "new"
        _write_videos(draft, labels, (num_train, num_val), seed, num_workers)
        (draft / MANIFEST).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            move_into_place(folder, scratch / "old")
        move_into_place(draft, folder)
    return folder


def load_digit_pools() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the digit images `(N, 8, 8)`, ink from 0 to 1, of the training and the validation videos.

    Source: `sklearn.datasets.load_digits`, 1797 images of the UCI set "Optical Recognition of Handwritten Digits".
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MVitVideoError("the embedded data set needs scikit-learn: pip install mvit-video[demo]") from None
    images = load_digits(return_X_y=True)[0].reshape(-1, 8, 8) / 16
    return images[:POOL_SPLIT], images[POOL_SPLIT:]


def draw_scene(pool: NDArray[np.float64], rng: np.random.Generator) -> Scene:
    """Draw the content of a video at random."""
    dark, dark_corner = rng.uniform(0, 90, (2, 3))
    light, light_corner = rng.uniform(165, 255, (2, 3))
    colour, ends = (light, (dark, dark_corner)) if rng.random() < 0.5 else (dark, (light, light_corner))
    ramp = 0.5 + np.add.outer(*(rng.uniform(-0.5, 0.5, (2, 1)) * np.linspace(-1, 1, SIDE)))
    return Scene(
        digit=pool[rng.integers(len(pool))],
        centre=SIDE / 2 + rng.uniform(-2.5, 2.5, 2),
        size=rng.uniform(23, 29),
        reach=rng.uniform(13, 16),
        phase_turns=rng.random(),
        colour=colour,
        background=ends[0] + ramp[..., None] * (ends[1] - ends[0]),
        noise=rng.uniform(2, 8) * rng.standard_normal((NUM_FRAMES, SIDE, SIDE, 1), dtype=np.float32),
    )


def poses(motion: Motion, scene: Scene) -> Poses:
    """Return the poses of the digit of a scene under a motion."""
    step = np.interp(np.arange(NUM_FRAMES), SAMPLED_FRAMES, np.arange(8))
    sweep = 2 * step / 7 - 1
    angle = 2 * np.pi * ((scene.phase_turns + motion.orbit * step / 8) % 1)
    offset = np.stack([np.cos(angle), np.sin(angle)], 1) if motion.orbit else np.outer(sweep, motion.travel)
    return Poses(
        centre=scene.centre + scene.reach * offset,
        size=scene.size * 1.5 ** (motion.growth * sweep),
        tilt=2 * np.pi * scene.phase_turns * abs(motion.spin) + 0.8 * np.pi * motion.spin * sweep,
    )


def render(scene: Scene, path: Poses) -> NDArray[np.uint8]:
    """Draw the frames `(T, H, W, 3)`, RGB: each of the digit's 64 cells is a Gaussian spot, a product over x and y."""
    cells = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(64, 2) / 8 - 7 / 16
    cos, sin = np.cos(path.tilt), np.sin(path.tilt)
    rotation = np.array([[cos, sin], [-sin, cos]]).transpose(2, 0, 1)
    spots = path.centre[:, None] + path.size[:, None, None] * (cells @ rotation)
    away = (np.arange(SIDE) - spots[..., None]) / (0.5 * path.size / 8)[:, None, None, None]
    x, y = np.moveaxis(np.exp(-0.5 * away.astype(np.float32) ** 2), 2, 0)
    ink = (scene.digit.reshape(64, 1) * y).astype(np.float32).swapaxes(1, 2) @ x / (2 * np.pi * 0.5**2)
    ink = np.clip(1.6 * ink - 0.3, 0, 1)[..., None]
    return np.clip(scene.background + ink * (scene.colour - scene.background) + scene.noise, 0, 255).astype(np.uint8)


def encode(frames: NDArray[np.uint8], path: Path) -> None:
    """Write RGB frames `(T, H, W, 3)` as reproducible H.264 in MP4 that every decoder reads exactly."""
    with av.open(str(path), "w", format="mp4", options={"use_editlist": "0"}) as container:
        options = x264_options("veryfast", 18, b_frames=False, keyint=8, scenecut=0)
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _is_written(folder: Path, settings: dict[str, object]) -> bool:
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        if folder.exists():  # do not delete files of others
            raise MVitVideoError(f"{folder}: has no readable {MANIFEST}; remove it or choose another root") from None
        return False
    counts = {f"num_{split}": len(list((folder / split).glob("*/*.mp4"))) for split in SPLITS}
    return found == settings == {**settings, **counts}


def _first_foreign(folder: Path) -> Path | None:
    """Return a file in the folder of a label set that is not part of it, or None."""
    files = (path for path in sorted(folder.rglob("*")) if not path.is_dir() or path.is_symlink())
    return next((path for path in files if not _OWN_FILE.fullmatch(path.relative_to(folder).as_posix())), None)


def _write_videos(folder: Path, labels: str, counts: tuple[int, int], seed: int, num_workers: int) -> None:
    pools = load_digit_pools()
    classes = LABEL_SETS[labels]
    jobs: list[tuple[int, int, str, str]] = []
    for number, (split, count) in enumerate(zip(SPLITS, counts, strict=True)):
        names = islice(cycle(classes), count)
        rows = [(f"{split}/{name}/{split}_{index:05d}.mp4", name) for index, name in enumerate(names)]
        jobs += [(number, index, *row) for index, row in enumerate(rows)]
        for name in classes:
            (folder / split / name).mkdir(parents=True)
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([("path", "label"), *rows])

    def write_video(split: int, index: int, path: str, name: str) -> None:
        scene = draw_scene(pools[split], np.random.default_rng([seed, split, index]))
        encode(render(scene, poses(classes[name], scene)), folder / path)

    console = Console(stderr=True)
    # NumPy and the encoder release the interpreter lock
    with (
        ThreadPoolExecutor(num_workers) as workers,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        done = workers.map(write_video, *zip(*jobs, strict=True))
        for _ in progress.track(done, len(jobs), description=f"{labels} videos"):
            pass


def main(root: Path = Path("data/demo")) -> None:
    """Write the data set of the command line, by default under `root`."""
    parser = argparse.ArgumentParser(
        prog="python -m mvit_video.data.digits",
        description="Write the embedded video data set: moving handwritten digits.",
        epilog="example: python -m mvit_video.data.digits --labels pairs --num-train 400 --num-val 120",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--labels", choices=list(LABEL_SETS), default="orbit", help="label set")
    parser.add_argument("--root", type=Path, default=root, help="write the videos to ROOT/LABELS")
    parser.add_argument("--num-train", type=int, default=800, help="training videos")
    parser.add_argument("--num-val", type=int, default=240, help="validation videos")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--num-workers", type=int, default=2, help="threads that draw and encode")
    try:
        print(write_digits(**vars(parser.parse_args())))
    except (MVitVideoError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped; no videos are kept, the same command starts again", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
