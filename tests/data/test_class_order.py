"""Whose names number the classes of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mvit_video.data import VideoTable
from mvit_video.data.splits import ClassOrder, Order, number_classes
from mvit_video.jobs.arrow import as_strings
from mvit_video.types import AnnotationError, ConfigError


def table(*labels: int, names: tuple[str, ...] | None = None) -> VideoTable:
    paths = as_strings([f"{i}.mp4" for i in range(len(labels))])
    return VideoTable(paths, np.array(labels), names, Path())


def refuse(split: str) -> None:
    pytest.fail(f"{split} was read")


def test_what_is_trained_on_leads() -> None:
    train, val = table(0, 1, names=("run", "jump")), table(0, names=("jump",))
    order = ClassOrder().lead({"train": train, "val": val}, refuse)
    assert order == Order(("run", "jump"), "data.train")
    assert number_classes(order, "val", val, needs_labels=True).labels.tolist() == [1]


def test_a_test_asks_for_the_names_of_training() -> None:
    test = table(0, names=("jump",))
    asked: list[str] = []

    def read(split: str) -> tuple[str, ...] | None:
        asked.append(split)
        return ("run", "jump") if split == "val" else None

    assert ClassOrder().lead({"test": test}, read) == Order(("run", "jump"), "data.val")
    assert asked == ["train", "val"]
    assert ClassOrder(["jump"]).lead({"test": test}, refuse) == Order(None, "")


def test_a_checkpoint_leads_from_then_on() -> None:
    order = ClassOrder()
    assert order.follow(("jump", "run"), "the checkpoint a.ckpt", None) == Order(
        ("jump", "run"), "the checkpoint a.ckpt"
    )
    assert order.lead({"train": table(0, names=("run",))}, refuse) == Order(("jump", "run"), "the checkpoint")


def test_names_of_the_user_that_are_not_those_of_the_checkpoint_are_refused() -> None:
    order = ClassOrder(["run", "jump"])
    with pytest.raises(ConfigError, match=r"has 'jump' as class 1, a\.ckpt has 'fly': give the names of its training"):
        order.follow(("run", "fly"), "a.ckpt", ("run", "jump"))
    with pytest.raises(ConfigError, match=r"has 'jump' as class 1, a\.ckpt has 'nothing'"):
        order.follow(("run",), "a.ckpt", ("run", "jump"))
    assert order.follow(("run", "jump"), "a.ckpt", ("run", "jump")).names == ("run", "jump")


def test_a_class_that_the_order_lacks_is_refused_or_costs_the_labels() -> None:
    odd, order = table(0, 1, names=("run", "fly")), Order(("run", "jump"), "data.train")
    with pytest.raises(ConfigError, match=r"data\.test has the class 'fly', which is not in data.train"):
        number_classes(order, "test", odd, needs_labels=True)
    without = number_classes(order, "predict", odd, needs_labels=False)
    assert (without.labels.tolist(), without.class_names) == ([-1, -1], ("run", "jump"))


def test_numbers_stay_where_no_name_is_a_number() -> None:
    numbers = table(1, 0)
    assert number_classes(Order(("run", "jump"), ""), "val", numbers, needs_labels=True) is numbers
    named = number_classes(Order(("7", "8"), "data.train"), "val", numbers, needs_labels=True)
    assert (named.labels.tolist(), named.class_names) == ([1, 0], ("7", "8"))
    with pytest.raises(AnnotationError, match=r"0\.mp4: label 1 may be class 1 \('2'\) or the name of class 0 \('1'\)"):
        number_classes(Order(("1", "2"), "data.train"), "val", table(1), needs_labels=True)
