import os
from pathlib import Path

import pytest

from mvit_video.data import load_annotations
from mvit_video.types import AnnotationError
from tests.fixtures.data import Write


@pytest.mark.parametrize("path", ["../b.mp4", "a/../../b.mp4", "..", "a/b/../../../c.mp4"])
def test_a_relative_path_stays_inside_unless_it_may_leave(write: Write, path: str) -> None:
    source = write(f"a.mp4 0\n{path} 1\n")
    with pytest.raises(
        AnnotationError,
        match=r"list\.txt:2: path '.*' is outside the root folder; .*data\.loading\.allow_outside: true",
    ):
        load_annotations(source)
    assert load_annotations(source, allow_outside=True).path(1) == path


@pytest.mark.parametrize("path", ["a/../b.mp4", "..a/b.mp4", "a..mp4", "a/..b/c..mp4"])
def test_dots_that_stay_inside_are_let_be(write: Write, path: str) -> None:
    assert load_annotations(write(f"{path} 0\n")).path(0) == path


def test_absolute_paths_are_kept_where_no_root_is_given(write: Write) -> None:
    assert load_annotations(write("/abs/b.mp4 0\n")).locate(0) == Path("/abs/b.mp4")


def test_absolute_paths_lie_under_a_root_that_is_given(write: Write, tmp_path: Path) -> None:
    inside = write(f"{tmp_path}/a.mp4 0\n{tmp_path}/x/../b.mp4 0\n")
    assert load_annotations(inside, tmp_path).locate(0) == tmp_path / "a.mp4"
    (tmp_path / "link").symlink_to(tmp_path)
    assert len(load_annotations(inside, tmp_path / "link")) == 2
    assert len(load_annotations(inside, os.path.relpath(tmp_path))) == 2
    for path in ["/abs/b.mp4", f"{tmp_path}2/b.mp4", f"{tmp_path}/../b.mp4"]:
        outside = write(f"{tmp_path}/a.mp4 0\n{path} 0\n")
        with pytest.raises(
            AnnotationError, match=r":2: path '.*' is outside data\.root='.*data\.loading\.allow_outside: true"
        ):
            load_annotations(outside, tmp_path)
        assert load_annotations(outside, tmp_path, allow_outside=True).locate(1) == Path(path)
