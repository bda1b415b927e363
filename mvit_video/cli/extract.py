"""The verb `extract`."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from typing import TYPE_CHECKING, get_args

from mvit_video.cli.options import (
    FLAGS_OF_EXTRACTION,
    VerbParser,
    add_class_names_option,
    add_time_limit,
    console_for_reports,
    count,
    out_folder,
    resumable,
)
from mvit_video.cli.wording import in_flags
from mvit_video.types import Backend, ConfigError, FeatureFormat, Layer, Precision

if TYPE_CHECKING:
    from mvit_video.features.extraction import Engine
    from mvit_video.features.extractor import Extractor


def run(words: list[str]) -> int:
    """Write features of videos.

    Returns: exit code: 1 when some videos have none.
    """
    args = _parser().parse_args(words)
    from mvit_video.features.extraction import describe, extract_videos
    from mvit_video.features.extractor import Extractor, ExtractSettings
    from mvit_video.features.inputs import find_inputs
    from mvit_video.runs.trained_model import load_model

    console = console_for_reports()
    with in_flags(**FLAGS_OF_EXTRACTION):
        settings = ExtractSettings(**{one.name: getattr(args, one.name) for one in fields(ExtractSettings)})
    if args.address and args.engine != "ray":
        raise ConfigError(f"--address {args.address} is a cluster for --engine ray; add that, or omit --address")
    of_logits = args.class_names if args.layer == "logits" else None
    # with Ray the model computes elsewhere
    settings = replace(settings, device="cpu") if args.engine == "ray" else settings
    with in_flags(**FLAGS_OF_EXTRACTION, videos="INPUT"):
        inputs = find_inputs(args.inputs, args.root)
        if args.class_names is not None and of_logits is None:
            inputs = inputs.named(args.class_names)
        extractor = Extractor(settings, load_model(args.model, class_names=of_logits))
    with resumable("videos done"):
        summary = extract_videos(inputs, extractor, _engine(args, extractor), args.out, args.format, console)
    for line in describe(summary):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 1 if summary.num_failed else 0


def _engine(args: argparse.Namespace, extractor: Extractor) -> Engine:
    from mvit_video.features.engines.local import extract_locally
    from mvit_video.features.engines.ray import Cluster, extract_on_ray
    from mvit_video.jobs import num_cores

    if args.engine == "ray":
        cluster = Cluster(args.address, args.device, args.workers, args.time_limit)
        return lambda videos, count_windows: extract_on_ray(videos, extractor, cluster, count_windows)
    # a GPU takes all that the cores can decode; on a CPU the model needs nearly all of them
    workers = args.workers or (num_cores() if extractor.device.type != "cpu" else max(1, num_cores() // 8))
    return lambda videos, count_windows: extract_locally(videos, extractor, workers, args.time_limit, count_windows)


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video extract",
        description="Write features of windows that slide over videos, with their times. A second run extracts only "
        "videos that are new, have changed or have failed; after Ctrl-C or a kill the same command resumes.",
        example="mvit-video extract data/videos --model runs/mvit_b_k400/version_3 --stride 16 --out features/mvit_b",
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="videos, folders, quoted patterns such as '**/*.mp4', annotations "
        "(CSV, JSON, Parquet, tar shards), whose labels and segments count",
    )  # fmt: skip
    parser.add_argument(
        "--model", required=True, metavar="MODEL", help="a checkpoint, a run folder, or a name of `mvit-video models`"
    )
    parser.add_argument(
        "--out", check=out_folder, required=True, metavar="DIR", help="folder of this extraction alone, or its URL"
    )
    parser.add_argument(
        "--format", choices=get_args(FeatureFormat), default="parquet", help="of the features (default: %(default)s)"
    )
    parser.add_argument(
        "--layer", choices=get_args(Layer), default="pooled", metavar="LAYER", help="pooled (the embedding), tokens "
        "(the final ones), stage1 to stage4 (a map), or logits (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--window", metavar="LENGTH", help="frames (64) or seconds (2.5s) of each window (default: a clip of the model)"
    )
    parser.add_argument(
        "--stride", metavar="LENGTH", help="from one window to the next, as --window (default: the window)"
    )
    parser.add_argument(
        "--crops", dest="num_crops", type=int, choices=(1, 3), default=1, help="of each window (default: %(default)s)"
    )
    parser.add_argument("--keep-crops", action="store_true", help="keep the features of each crop, not their mean")
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="fp32", help="of the model; fp16 and bf16 are "
        "kept as float16 (default: %(default)s)",
    )  # fmt: skip
    add_class_names_option(parser, "those of the INPUTs; for logits, of the checkpoint")
    _add_machine_options(parser)
    return parser


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=count, default=8, metavar="N", help="clips that the model takes at once "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--backend", choices=get_args(Backend), default="pyav", help="library that decodes (default: "
        "%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--decode-short-side", type=int, metavar="PIXELS", help="shorter edge that larger frames are decoded to; 0 is "
        "their own size (default: what the crops need)",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", 
        help="this machine, or a Ray cluster, see docs/guides/many-machines.md (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="head of a Ray cluster that runs already (default: one that is started "
        "on this machine)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=count, metavar="N", help="decoding processes (default: the cores with a GPU, an eighth of "
        "them without); with Ray: processes with a CPU and the model each (default: all that fit)",
    )  # fmt: skip
    add_time_limit(parser)
    parser.add_argument("--root", help="folder that relative paths of annotations start from (default: theirs)")
