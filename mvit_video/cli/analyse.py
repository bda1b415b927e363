"""The verb `analyse`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import track
from torch import nn

from mvit_video.analysis.attention import NoSuchAttention
from mvit_video.analysis.batches import Batch, TrainingTarget, choose_rows, read_batches
from mvit_video.analysis.curvature import WeightDecay
from mvit_video.analysis.report import study, write_page
from mvit_video.analysis.studies import STUDIES, StudySettings, Subject, one_thread_if_small
from mvit_video.cli import Stopped
from mvit_video.cli.options import (
    VerbParser,
    add_class_names_option,
    annotation_source,
    console_for_reports,
    count,
)
from mvit_video.cli.wording import in_flags
from mvit_video.data import VideoTable, load_annotations
from mvit_video.data.clips.mixing import Mixing
from mvit_video.data.clips.transforms import Augment, Normalize
from mvit_video.data.clips.views import RandomView, UniformViews
from mvit_video.jobs import require_writable
from mvit_video.runs.settings import typed_settings
from mvit_video.runs.trained_model import TrainedModel, load_model
from mvit_video.types import CheckpointError, ConfigError

# settings of `data` and `model` in a config
_OF_DATA = {"augment": Augment}
_OF_MODEL = {"mixing": Mixing, "label_smoothing": float}
_MODEL = "RUN|CHECKPOINT"


class Training(NamedTuple):
    """What the config of a run says of its training, as far as the loss depends on it."""

    view: RandomView
    target: TrainingTarget
    weight_decay: float


def run(words: list[str]) -> int:
    """Makes studies of a trained net and writes their tables, figures and page."""
    args = _parser().parse_args(words)
    console, out = console_for_reports(), Path(args.out)
    names = list(dict.fromkeys(args.study)) if args.study else list(STUDIES)
    require_writable(out / "report.html", "--out")
    with in_flags(source=_MODEL, class_names="--class-names"):
        trained = load_model(args.model, class_names=args.class_names)
    training, notes = _training(trained)
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    table = load_annotations(args.data, args.root, class_names=trained.class_names)
    settings = StudySettings.of_seed(args.seed)
    subject = _subject(trained, training, table, names, settings, args)
    record = {
        "model": str(args.model), "weights": trained.digest(), "data": str(args.data), "clips": args.clips,
        "clips_per_batch": args.batch_size, "seed": args.seed,
    }  # fmt: skip
    num_done = 0
    shown = track(names, "studying", console=console, transient=True, disable=not console.is_terminal)
    try:
        with one_thread_if_small(trained.net):
            for name in shown:
                own = dataclasses.asdict(getattr(settings, name)) if hasattr(settings, name) else {}
                decay = {"weight_decay": training.weight_decay} if name in ("hessian", "landscape") else {}
                try:
                    is_new = study(name, subject, {**record, **decay, **{k: _plain(v) for k, v in own.items()}}, out)
                except NoSuchAttention as error:
                    if args.study:
                        raise
                    console.print(f"  {name} is left out: {error}", highlight=False, markup=False, soft_wrap=True)
                    continue
                num_done += 1
                text = "made" if is_new else "there already"
                console.print(f"  {out / name}.parquet, .png  {text}", highlight=False, markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        message = f"stopped with {num_done} of {len(names)} studies done; the same command does the rest"
        raise Stopped(message, 130) from None
    page = write_page(out, f"{args.model}")
    console.print(f"  {page}  all of them, for a browser", highlight=False, markup=False, soft_wrap=True)
    return 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video analyse",
        description="Study what a trained net does: frequencies and spread of its feature maps, similarity of its "
        "layers, worth of each branch, noise, reach of attention, curvature and landscape of its loss. Every study "
        "leaves a table and a figure; those that are there already are not made again.",
        example="mvit-video analyse runs/demo/version_0 --data data/demo/orbit/val.csv --out analysis/demo",
    )
    parser.add_argument("model", metavar=_MODEL, help="run folder, checkpoint of any known format, or a name")
    parser.add_argument(
        "--data",
        check=annotation_source,
        required=True,
        metavar="ANNOTATIONS",
        help="videos to study the net with, as in docs/data.md",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for tables, figures and report.html")
    parser.add_argument(
        "--study", nargs="+", choices=STUDIES, metavar="NAME", help=f"some of {', '.join(STUDIES)} (default: all)"
    )
    parser.add_argument(
        "--clips", type=count, default=64, metavar="N", help="videos, one clip each (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=count, default=16, metavar="N", help="clips in a batch (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)")
    add_class_names_option(parser, "those of the checkpoint")
    parser.add_argument("--root", help="folder that relative paths start from (default: that of the annotation file)")
    return parser


def _subject(
    trained: TrainedModel, training: Training, table: VideoTable, names: list[str], settings: StudySettings, args: Any
) -> Subject:
    seen = trained.preprocessing
    tested = seen.test_views(num_clips=1, num_crops=1)
    labelled = any(STUDIES[name].needs_labels for name in names)
    rows = choose_rows(table, args.clips, args.seed, labelled=labelled)
    num_classes = trained.net.num_classes

    def read(view: UniformViews | RandomView, target: TrainingTarget) -> list[Batch]:
        return read_batches(
            table, view, rows, num_classes=num_classes, batch_size=args.batch_size, seed=args.seed, target=target
        )

    return Subject(
        trained.net,
        lambda: read(tested, TrainingTarget()),
        lambda: read(training.view, training.target),
        _weight_decay(trained.net, training.weight_decay),
        settings,
    )


def _weight_decay(net: nn.Module, value: float) -> WeightDecay:
    from mvit_video.training.parameters import decay_groups  # brings Lightning, which takes seconds

    return [{"weight_decay": value, **group} for group in decay_groups(net)] if value else 0.0


def _training(trained: TrainedModel) -> tuple[Training, tuple[str, ...]]:
    """As the config of the run says; without one, published crops and flips, and no weight decay."""
    seen = trained.preprocessing
    normalize = Normalize(seen.input.mean, seen.input.std)
    notes = (
        ()
        if trained.config
        else ("there is no config.yaml of a run: its augmentation is taken for the default, its weight decay for 0",)
    )
    try:
        data = typed_settings(trained.config.get("data"), _OF_DATA, "data")
        model = typed_settings(trained.config.get("model"), _OF_MODEL, "model")
        augment = dataclasses.replace(data.get("augment", Augment()), repeats=1)
        view = RandomView(seen.clip, seen.input.crop_size, augment, normalize)
        target = TrainingTarget(model.get("mixing"), model.get("label_smoothing", 0.0))
        optimizer = (trained.config.get("model") or {}).get("optimizer") or {}
        told = typed_settings(optimizer.get("init_args"), {"weight_decay": float}, "model.optimizer.init_args")
    except (ConfigError, AttributeError) as error:
        raise CheckpointError(
            f"the config.yaml beside {trained.checkpoint} does not describe a training ({error})"
        ) from error
    return Training(view, target, told.get("weight_decay", 0.0)), notes


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
