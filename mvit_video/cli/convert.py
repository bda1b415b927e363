"""The verb `convert`."""

from __future__ import annotations

from pathlib import Path

import mvit_video as mv
from mvit_video.cli.options import VerbParser
from mvit_video.models.checkpoints import FOREIGN_FORMATS, load_checkpoint


def convert(words: list[str]) -> int:
    """Reads a checkpoint of any known layout and writes it in another."""
    parser = VerbParser(
        prog="mvit-video convert",
        description="Convert a checkpoint of SlowFast, pytorchvideo, torchvision, or this project. Its layout is "
        "recognised by its keys, and the model inferred from its tensors unless it is named.",
        example="mvit-video convert k400.pyth mvit_b.safetensors --to mvit_video",
    )
    parser.add_argument("source", metavar="IN", type=Path, help="file of torch.save or safetensors")
    parser.add_argument("target", metavar="OUT", type=Path, help="file to write; one that exists is replaced")
    parser.add_argument(
        "--to", required=True, choices=["mvit_video", *FOREIGN_FORMATS], help="layout; mvit_video is safetensors"
    )
    parser.add_argument(
        "--model", help="name of the model, where the tensors do not tell it; mvit-video models lists them"
    )
    parser.add_argument("--num-frames", type=int, help="frames of a clip, likewise; positions are resized")
    parser.add_argument("--crop-size", type=int, help="height and width of a clip in pixels, likewise")
    args = parser.parse_args(words)
    sizes = {"num_frames": args.num_frames, "crop_size": args.crop_size}
    model = mv.create_model(args.model, checkpoint=args.source, **sizes)
    print(load_checkpoint(model, args.source))
    if args.to == "mvit_video":
        mv.save_checkpoint(model, args.target)
    else:
        mv.export_checkpoint(model, args.target, format=args.to)
    print(f"wrote {args.target} ({args.to})")
    return 0
