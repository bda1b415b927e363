"""Accuracy of the videos that `probe` and `knn` classified: what is printed and written."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.table import Table

from mvit_video.cli.options import console_for_reports
from mvit_video.cli.wording import in_flags
from mvit_video.features.store import FeatureTable, load_features, require_alike
from mvit_video.jobs.files import require_writable, write_json_object
from mvit_video.metrics import accuracy
from mvit_video.metrics.intervals import LEVEL, METHOD, mean_class_interval, share_interval
from mvit_video.runs.predictions import PREDICTIONS, list_column, save_predictions
from mvit_video.types import ConfigError, MVitVideoError

Probabilities = NDArray[np.float64]


class Classified(NamedTuple):
    """Videos and their probabilities: one row per video, all 0 for a video that was not classified."""

    table: FeatureTable
    probabilities: Probabilities


def load_pair(args: Namespace) -> tuple[FeatureTable, FeatureTable | None, int]:
    """Return the features to train on, those to test on, and the number of classes.

    Args:
        args: values of the options of `add_scoring_options`.

    Raises:
        ConfigError: the two tables do not match, or `--out` cannot be written to.
        MVitVideoError: no row to train on has a label.
    """
    if args.out is not None:
        require_writable(Path(args.out) / PREDICTIONS, "--out")
    with in_flags(class_names="--class-names"):
        tables = [load_features(one, args.class_names) for one in (args.features, args.test) if one is not None]
    if (tables[0].label < 0).all():
        raise MVitVideoError(f"{args.features}: no row has a label; extract from annotations or a folder per class")
    require_alike(tables[0], tables[-1])
    named = [len(names) for table in tables if (names := table.class_names) is not None]
    num_classes = max([*named, *(int(table.label.max()) + 1 for table in tables)])
    if args.windows == "mean":
        tables = [table.averaged() for table in tables]
    return tables[0], tables[1] if args.test is not None else None, num_classes


def scores(probabilities: Probabilities, label: NDArray[np.int64]) -> dict[str, Any]:
    """Return top1, top5 and mean class accuracy in percent with their intervals, over the videos with a label."""
    known = torch.from_numpy(np.flatnonzero(label >= 0))
    if not len(known):
        return {"num_videos": 0}
    of_videos, labels = torch.from_numpy(probabilities)[known], torch.from_numpy(label)[known]
    ranks = accuracy.label_ranks(of_videos, labels)
    confused = accuracy.confusion(of_videos.argmax(dim=1), labels, of_videos.shape[1])
    numbers = {f"top{k}": float(accuracy.share_within(ranks, k)) for k in (1, 5)}
    bounds = {f"top{k}": share_interval(int((ranks < k).sum()), len(ranks)) for k in (1, 5)}
    numbers["mean_class"] = float(accuracy.mean_known(accuracy.class_accuracy(confused)))
    bounds["mean_class"] = mean_class_interval(confused.numpy())
    about = {"level": LEVEL, "method": METHOD}
    intervals = {name: one._asdict() for name, one in bounds.items()}
    return {"num_videos": len(known), "metrics": numbers, "intervals": about | intervals}


def report(
    args: Namespace,
    verb: str,
    facts: Mapping[str, Any],
    train: FeatureTable,
    found: Classified,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Print the setting and the accuracy, and write them to the folder of `--out`.

    Args:
        args: values of the options of `add_scoring_options`.
        facts: setting, printed and recorded.
        train: features that were trained on.
        details: recorded only.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    table = found.table
    facts = {"features": str(train.source), "judged on": str(table.source), "windows": args.windows, **facts}
    if table.source != train.source:
        facts["files in both"] = int((train.numbers_of(table.files) >= 0).sum())
    numbers = scores(found.probabilities, table.label[table.first_rows])
    setting = {name.replace(" ", "_"): value for name, value in facts.items()} | train.metadata
    record = setting | dict(details or {}) | numbers
    if args.json:
        print(json.dumps(record, indent=2))
    else:
        _print(verb, facts, numbers)
    if args.out is not None:
        folder = Path(args.out)
        try:
            files = _write(folder, verb, setting, record, found)
        except OSError as error:
            raise ConfigError(f"--out {folder}: cannot be written ({error.strerror}); give another folder") from error
        if not args.json:
            print(*(f"  {file}" for file in files), sep="\n")


def _print(verb: str, facts: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    table = Table(title=verb, title_justify="left", show_header=False)
    for name, value in facts.items():
        table.add_row(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
    table.add_row("videos with a label", f"{numbers['num_videos']:,}")
    for name, value in numbers.get("metrics", {}).items():
        bounds = numbers["intervals"][name]
        table.add_row(name, f"{value:.2f}  ({LEVEL:.0%}: {bounds['low']:.2f} to {bounds['high']:.2f})")
    console_for_reports().print(table, highlight=False, markup=False)


def _write(
    folder: Path, verb: str, setting: Mapping[str, Any], record: Mapping[str, Any], found: Classified
) -> list[Path]:
    """Write the record as JSON, and a row per video in the layout of a test's predictions."""
    table, probabilities = found
    first = table.first_rows
    last = np.append(first[1:], len(table)) - 1
    is_part = np.bincount(table.file[first], minlength=len(table.files))[table.file[first]] > 1
    is_scored = probabilities.max(axis=1) > 0
    columns = {
        "path": table.files.take(pa.array(table.file[first])),
        "start": pa.array(table.rows["start_seconds"].to_numpy()[first], mask=~is_part),
        "end": pa.array(table.rows["end_seconds"].to_numpy()[last], mask=~is_part),
        "label": pa.array(table.label[first]),
        "prediction": pa.array(np.where(is_scored, probabilities.argmax(axis=1), -1)),
        "probabilities": list_column(probabilities[is_scored].astype(np.float32), is_scored),
        "status": pa.array(np.where(is_scored, "ok", "without a label")),
    }  # fmt: skip
    files = [folder / f"{verb}.json", folder / PREDICTIONS]
    write_json_object(files[0], record)
    save_predictions(files[1], [columns], {"num_clips": "every window", "verb": verb, **setting}, table.class_names)
    return files
