"""Annotation files and folders of empty videos."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a text file under the temporary folder."""

    def write(text: str, name: str = "list.txt") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., Path]:
    """Makes empty files under a folder of videos, and says where it is."""

    def touch(*names: str, folder: str = "videos") -> Path:
        root = tmp_path / folder
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        return root

    return touch
