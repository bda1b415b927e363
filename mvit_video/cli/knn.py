"""The verb `knn`."""

from __future__ import annotations

from pathlib import Path

from mvit_video.cli.options import VerbParser, count, positive
from mvit_video.cli.scoring import Classified, add_scoring_options, load_pair, report
from mvit_video.features.search import TEMPERATURE, nearest_rows, vote
from mvit_video.features.store import video_means
from mvit_video.jobs import require_writable
from mvit_video.runs.predictions import PREDICTIONS


def run(words: list[str]) -> int:
    """Classifies videos by the labels of their nearest neighbours."""
    args = _parser().parse_args(words)
    if args.out is not None:
        require_writable(Path(args.out) / PREDICTIONS, "--out")
    train, test, num_classes = load_pair(
        args.features, args.test, average=args.windows == "mean", class_names=args.class_names
    )
    judged = train if test is None else test
    neighbours = nearest_rows(
        judged.vectors, train.vectors, args.k, file=train.file, without=train.numbers_of(judged.files)[judged.file]
    )
    votes = vote(neighbours, train.label, num_classes, args.temperature)
    facts = {
        "protocol": "each video among all others" if test is None else "other videos",
        "rows": len(train),
        "k": args.k,
        "temperature": args.temperature,
    }
    report(args, "knn", facts, train, Classified(judged, video_means(votes, judged)))
    return 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video knn",
        description="Classify videos by the labels of the K nearest rows by cosine, each with the weight "
        "exp(cosine / temperature); rows of a video's own file have no vote. Without --test every video is judged by "
        "all others.",
        example="mvit-video knn features/train --test features/val -k 20",
    )
    add_scoring_options(parser)
    parser.add_argument("-k", type=count, default=20, metavar="K", help="neighbours (default: %(default)s)")
    parser.add_argument(
        "--temperature", type=positive, default=TEMPERATURE, metavar="T", help="smaller gives the nearest more weight "
        "(default: %(default)s)",
    )  # fmt: skip
    return parser
