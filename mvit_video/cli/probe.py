"""The verb `probe`."""

from __future__ import annotations

from mvit_video.cli.options import VerbParser, add_scoring_options, count, positive

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


def run(words: list[str]) -> int:
    """Fit a linear probe on stored features and print its accuracy."""
    args = _parser().parse_args(words)
    from mvit_video.cli.scoring import Classified, load_pair, report
    from mvit_video.features.probe import ProbeSettings, cross_validate, fit_probe

    settings = ProbeSettings(tuple(args.strengths), args.folds, args.max_iterations)
    train, test, num_classes = load_pair(args)
    if test is None:
        probabilities, probes = cross_validate(train, num_classes, settings)
        found, protocol = Classified(train, probabilities), f"cross-validation over files, {len(probes)} folds"
    else:
        probes = [fit_probe(train, num_classes, settings)]
        found, protocol = Classified(test, probes[0].probabilities(test)), "other videos"
    facts = {
        "protocol": protocol,
        "rows": len(train),
        "C": [one.strength for one in probes],
        "converged": all(one.has_converged for one in probes),
    }
    report(args, "probe", facts, train, found, details={"accuracy_of_C": [one.accuracies for one in probes]})
    return 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video probe",
        description="Standardise stored features and fit a multinomial logistic regression, C chosen by "
        "cross-validation over files. Without --test every video is judged by a probe that saw none of its file.",
        example="mvit-video probe features/train --test features/val --out probes/mvit_b",
    )
    add_scoring_options(parser)
    parser.add_argument(
        "--strengths", type=positive, nargs="+", default=STRENGTHS, metavar="C", help="values of C to choose from "
        f"(default: {' '.join(f'{one:g}' for one in STRENGTHS)})",
    )  # fmt: skip
    parser.add_argument("--folds", type=count, default=5, metavar="N", help="of cross-validation (default: 5)")
    parser.add_argument(
        "--max-iterations", type=count, default=1000, metavar="N", help="of the solver (default: %(default)s)"
    )
    return parser
