"""The verb `analyse`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.progress import track

from mvit_video.cli import Stopped
from mvit_video.cli.options import (
    VerbParser,
    add_class_names_option,
    annotation_source,
    console_for_reports,
    count,
)
from mvit_video.cli.wording import in_flags
from mvit_video.types import CheckpointError, ConfigError

if TYPE_CHECKING:
    from mvit_video.analysis.batches import Batch, TrainingTarget
    from mvit_video.analysis.studies import StudySettings, Subject
    from mvit_video.data import VideoTable
    from mvit_video.data.clips.views import RandomView, UniformViews
    from mvit_video.runs import TrainedModel

NAMES: tuple[str, ...] = (
    "fourier", "variance", "cka", "lesion", "noise", "locality", "distance", "reduction", "calibration", "hessian",
    "landscape",
)  # fmt: skip
"""Names of the studies, for a parser that needs no torch."""
_MODEL = "RUN|CHECKPOINT"


class Training(NamedTuple):
    """Settings of a run's training that its loss depends on."""

    view: RandomView
    target: TrainingTarget
    weight_decay: float


def run(words: list[str]) -> int:
    """Study a trained net and write tables, figures and a page."""
    args = _parser().parse_args(words)
    from mvit_video.analysis.report import write_page
    from mvit_video.analysis.studies import StudySettings, one_thread_if_small
    from mvit_video.data import find_videos
    from mvit_video.jobs import require_writable
    from mvit_video.runs import load_model

    console, out = console_for_reports(), Path(args.out)
    names = list(dict.fromkeys(args.study or NAMES))
    require_writable(out / "report.html", "--out")
    with in_flags(source=_MODEL, class_names="--class-names"):
        trained = load_model(args.model, class_names=args.class_names)
    training = _training(trained)
    if not trained.config:
        console.print(
            "this net has no config.yaml of a run: default augmentation and no weight decay are taken",
            highlight=False,
            soft_wrap=True,
        )
    table = find_videos(args.data, args.root, class_names=trained.class_names)
    settings = StudySettings.of_seed(args.seed)
    subject = _subject(trained, training, table, names, settings, args)
    record = {
        "model": str(args.model), "weights": trained.digest(), "data": str(args.data), "clips": args.clips,
        "clips_per_batch": args.batch_size, "seed": args.seed,
    }  # fmt: skip
    done: list[str] = []
    shown = track(names, "studying", console=console, transient=True, disable=not console.is_terminal)
    try:
        with one_thread_if_small(trained.net):
            for name in shown:
                line = _study(name, subject, record, training, out, is_asked=bool(args.study))
                console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
                done.append(name)
    except KeyboardInterrupt:
        message = f"stopped with {len(done)} of {len(names)} studies done; the same command does the rest"
        raise Stopped(message, 130) from None
    page = write_page(out, f"{args.model}")
    console.print(f"  {page}  all of them, for a browser", highlight=False, markup=False, soft_wrap=True)
    return 0


def _study(
    name: str, subject: Subject, record: dict[str, Any], training: Training, out: Path, *, is_asked: bool
) -> str:
    """Make one study and return a line about it.

    Args:
        is_asked: the user named it, so that a net that it does not suit is an error.
    """
    from mvit_video.analysis.attention import NoSuchAttention
    from mvit_video.analysis.report import study

    own = dataclasses.asdict(getattr(subject.settings, name)) if hasattr(subject.settings, name) else {}
    decay = {"weight_decay": training.weight_decay} if name in ("hessian", "landscape") else {}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in own.items()}
    try:
        is_new = study(name, subject, {**record, **decay, **plain}, out)
    except NoSuchAttention as error:
        if is_asked:
            raise
        return f"{name} is left out: {error}"
    return f"{out / name}.parquet, .png  {'made' if is_new else 'there already'}"


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video analyse",
        description="Study a trained net: frequencies and variance of its feature maps, similarity of its layers "
        "(CKA), lesions, noise, attention distance, calibration, curvature and landscape of its loss. Every study "
        "writes a table and a figure; finished ones are not repeated.",
        example="mvit-video analyse runs/demo/version_0 --data data/demo/orbit/val.csv --out analysis/demo",
    )
    parser.add_argument("model", metavar=_MODEL, help="run folder, checkpoint of any known format, or a model's name")
    parser.add_argument(
        "--data", check=annotation_source, required=True, metavar="ANNOTATIONS", help="videos to study the net with"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for tables, figures and report.html")
    parser.add_argument(
        "--study", nargs="+", choices=NAMES, metavar="NAME", help=f"some of {', '.join(NAMES)} (default: all)"
    )
    parser.add_argument(
        "--clips", type=count, default=64, metavar="N", help="videos, one clip each (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=count, default=16, metavar="N", help="clips in a batch (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of videos, noise and directions (default: 0)")
    add_class_names_option(parser, "the names in the checkpoint")
    parser.add_argument("--root", help="folder that relative paths start from (default: that of the annotation file)")
    return parser


def _subject(
    trained: TrainedModel,
    training: Training,
    table: VideoTable,
    names: list[str],
    settings: StudySettings,
    args: argparse.Namespace,
) -> Subject:
    from mvit_video.analysis.batches import TrainingTarget, choose_rows, read_batches
    from mvit_video.analysis.studies import STUDIES, Subject

    tested = trained.preprocessing.test_views(num_clips=1, num_crops=1)
    labelled = any(STUDIES[name].needs_labels for name in names)
    rows = choose_rows(table, args.clips, args.seed, labelled=labelled)
    num_classes = trained.net.num_classes
    decay: Any = 0.0
    if training.weight_decay:
        from mvit_video.training.parameters import decay_groups  # imports Lightning, which takes seconds

        decay = [{"weight_decay": training.weight_decay, **group} for group in decay_groups(trained.net)]

    def read(view: UniformViews | RandomView, target: TrainingTarget) -> list[Batch]:
        return read_batches(
            table, view, rows, num_classes=num_classes, batch_size=args.batch_size, seed=args.seed, target=target
        )

    return Subject(
        trained.net,
        lambda: read(tested, TrainingTarget()),
        lambda: read(training.view, training.target),
        decay,
        settings,
    )


def _training(trained: TrainedModel) -> Training:
    """Return the training that the config of the run describes; without one the default augmentation."""
    from mvit_video.analysis.batches import TrainingTarget
    from mvit_video.data.clips.mixing import Mixing
    from mvit_video.data.clips.transforms import Augment, Normalize
    from mvit_video.data.clips.views import RandomView
    from mvit_video.runs.settings import typed_settings

    seen, config = trained.preprocessing, trained.config
    try:
        data = typed_settings(config.get("data"), {"augment": Augment}, "data")
        model = typed_settings(config.get("model"), {"mixing": Mixing, "label_smoothing": float}, "model")
        augment = dataclasses.replace(data.get("augment", Augment()), repeats=1)
        view = RandomView(seen.clip, seen.input.crop_size, augment, Normalize(seen.input.mean, seen.input.std))
        target = TrainingTarget(model.get("mixing"), model.get("label_smoothing", 0.0))
        optimizer = (config.get("model") or {}).get("optimizer") or {}
        stated = typed_settings(optimizer.get("init_args"), {"weight_decay": float}, "model.optimizer.init_args")
    except (ConfigError, AttributeError) as error:
        raise CheckpointError(
            f"the config.yaml beside {trained.checkpoint} does not describe a training ({error})"
        ) from error
    return Training(view, target, stated.get("weight_decay", 0.0))
