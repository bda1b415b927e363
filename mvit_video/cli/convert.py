"""The verb `convert`."""

from __future__ import annotations

import argparse
from pathlib import Path

from mvit_video.cli.options import VerbParser, add_class_names_option, existing, out_file
from mvit_video.types import CheckpointError, ConfigError

HEAD_POOLS = ("cls", "mean_of_patches", "gap")


def run(words: list[str]) -> int:
    """Read a checkpoint of any known layout and write it in another."""
    args = _parser().parse_args(words)
    if args.class_names is not None and args.to != "mvit_video":
        raise ConfigError(f"--class-names: files of {args.to} hold no class names; leave it out")
    if args.target.exists() and args.target.samefile(args.source):
        raise ConfigError(f"OUT {args.target} is IN itself, which would be lost; give another file")
    import mvit_video as mv
    from mvit_video.checkpoints import UnknownArchitectureError, build_model, read_checkpoint

    stored = read_checkpoint(args.source, use_ema=args.use_ema)
    names = args.class_names or stored.class_names
    given = {key: getattr(args, key) for key in ("num_frames", "crop_size", "head_pool")}
    given = {key: value for key, value in given.items() if value is not None}
    try:
        model = build_model(args.model, checkpoint=stored, **given)
    except UnknownArchitectureError as error:
        raise error.advising("--model NAME says which model it is, --num-frames and --crop-size its input") from error
    except CheckpointError as error:
        hint = "leave out --model to convert the model that the file holds" if args.model else ""
        raise error.advising(hint) from error
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
            print(f"files of {args.to} hold no class names: the {len(names)} of {args.source} are not written")
    print(f"wrote {args.target} ({args.to})")
    return 0


def _layout(text: str) -> str | None:
    """Return the reason why no file can be written in a layout; None for a known one."""
    from mvit_video.checkpoints import foreign_formats

    known = ["mvit_video", *foreign_formats()]
    return None if text in known else f"expected one of {', '.join(known)}"


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video convert",
        description="Convert a checkpoint of SlowFast, pytorchvideo, torchvision, or this project. Its layout is "
        "recognised by its keys; the model is the one in its settings, or is inferred from its tensors, unless "
        "--model names it. What neither shows is assumed, printed, and recorded in a file of mvit_video.",
        example="mvit-video convert k400.pyth mvit_b.safetensors --to mvit_video",
    )
    parser.add_argument("source", metavar="IN", type=Path, check=existing, help="file of torch.save or safetensors")
    parser.add_argument(
        "target", metavar="OUT", type=Path, check=out_file, help="file to write, not IN; an existing one is replaced"
    )
    parser.add_argument(
        "--to", required=True, metavar="LAYOUT", check=_layout, help="mvit_video (safetensors), slowfast, pytorchvideo "
        "or torchvision",
    )  # fmt: skip
    parser.add_argument(
        "--model", metavar="NAME", help="name of the model, where the tensors do not show it, see mvit-video "
        "models",
    )  # fmt: skip
    parser.add_argument(
        "--num-frames", type=int, metavar="N", help="frames of a clip, where the tensors do not show them; positions "
        "are resized",
    )  # fmt: skip
    parser.add_argument(
        "--crop-size", type=int, metavar="PIXELS", help="height and width of a clip, where the tensors do not show it"
    )
    parser.add_argument(
        "--head-pool", choices=HEAD_POOLS, help="what the head classifies, where the file does not say it"
    )
    parser.add_argument(
        "--use-ema", action=argparse.BooleanOptionalAction, help="take the averaged (EMA) weights or the plain "
        "ones, where the file holds both (default: the ones that the file names as its model; printed)",
    )  # fmt: skip
    add_class_names_option(parser, "the names in IN; only files of mvit_video keep them")
    return parser
