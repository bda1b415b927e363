"""The verb `knn`."""

from __future__ import annotations

from mvit_video.cli.options import VerbParser, add_scoring_options, count, positive


def run(words: list[str]) -> int:
    """Classify videos by the labels of their nearest neighbours."""
    args = _parser().parse_args(words)
    from mvit_video.cli.scoring import Classified, load_pair, report
    from mvit_video.features.search import nearest_rows, vote
    from mvit_video.features.store import video_means

    train, test, num_classes = load_pair(args)
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
        "--temperature", type=positive, default=0.07, metavar="T", help="smaller gives the nearest more weight "
        "(default: %(default)s)",
    )  # fmt: skip
    return parser
