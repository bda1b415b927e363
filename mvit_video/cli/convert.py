"""The verb `convert`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import mvit_video as mv
from mvit_video.checkpoints import UnknownArchitectureError, build_model, foreign_formats, read_checkpoint
from mvit_video.cli.options import VerbParser, add_class_names_option, existing, out_file
from mvit_video.models.families.mvit.net import HeadPool
from mvit_video.types import CheckpointError, ConfigError


def run(words: list[str]) -> int:
    """Read a checkpoint of any known layout and write it in another."""
    args = _parser().parse_args(words)
    if args.class_names is not None and args.to != "mvit_video":
        raise ConfigError(f"--class-names: files of {args.to} hold no names of classes; leave it out")
    if args.target.exists() and args.target.samefile(args.source):
        raise ConfigError(
            f"OUT {args.target} is IN itself, which may hold what another layout cannot; give another file"
        )
    stored = read_checkpoint(args.source, use_ema=args.use_ema)
    names = args.class_names or stored.class_names
    given = {key: getattr(args, key) for key in ("num_frames", "crop_size", "head_pool")}
    given = {key: value for key, value in given.items() if value is not None}
    try:
        model = build_model(args.model, checkpoint=stored, **given)
    except UnknownArchitectureError as error:
        raise error.advising("--model NAME says which model it is, --num-frames and --crop-size its input") from error
    except CheckpointError as error:
        raise error.advising(
            "leave out --model to convert the model that the file holds" if args.model else ""
        ) from error
    if args.class_names is not None and len(args.class_names) != model.num_classes:
        raise ConfigError(
            f"--class-names holds {len(args.class_names)} names, {args.source} has {model.num_classes} classes"
        )
    report = model.load_report
    print(report)
    if args.to == "mvit_video":
        mv.save_checkpoint(model, args.target, class_names=names, facts=report.facts, assumed=report.assumed)
    else:
        mv.export_checkpoint(model, args.target, format=args.to)
        if names is not None:
            print(f"files of {args.to} hold no names of classes: the {len(names)} of {args.source} are left out")
    print(f"wrote {args.target} ({args.to})")
    return 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video convert",
        description="Convert a checkpoint of SlowFast, pytorchvideo, torchvision, or this project. Its layout is "
        "recognised by its keys, and the model taken from the settings in the file or inferred from its tensors unless "
        "it is named. What neither tells is assumed, printed, and noted in a file of mvit_video.",
        example="mvit-video convert k400.pyth mvit_b.safetensors --to mvit_video",
    )
    parser.add_argument("source", metavar="IN", type=Path, check=existing, help="file of torch.save or safetensors")
    parser.add_argument(
        "target", metavar="OUT", type=Path, check=out_file, help="file to write, not IN; one that exists is replaced"
    )
    parser.add_argument(
        "--to", required=True, choices=["mvit_video", *foreign_formats()], help="layout; mvit_video is safetensors"
    )
    parser.add_argument(
        "--model", help="name of the model, where the tensors do not tell it; mvit-video models lists them"
    )
    parser.add_argument(
        "--num-frames", type=int, help="frames of a clip, where the tensors do not tell them; positions are resized"
    )
    parser.add_argument("--crop-size", type=int, help="height and width of a clip in pixels, if not told")
    parser.add_argument(
        "--head-pool", choices=get_args(HeadPool), help="what the head classifies, where the file does not tell it"
    )
    parser.add_argument(
        "--use-ema", action=argparse.BooleanOptionalAction, help="take weights that were averaged over training, or "
        "those that were not, where the file holds both (default: what it names as its model; the report says which)",
    )  # fmt: skip
    add_class_names_option(parser, "those that IN holds; only files of mvit_video keep them")
    return parser
