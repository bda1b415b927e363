"""Tar files as other programs write them, and videos to pack."""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from mvit_video.data.annotations import VideoTable


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def write_tar() -> Callable[..., Path]:
    """Writes a tar of members by name, and gives its path."""

    def write(path: Path, members: dict[str, bytes | str], form: int = tarfile.USTAR_FORMAT) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w", format=form) as tar:
            for name, content in members.items():
                data = content.encode() if isinstance(content, str) else content
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return path

    return write


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., VideoTable]:
    """Writes files and gives the table of them."""

    def write(num_videos: int = 8, folder: str = "videos", **columns: object) -> VideoTable:
        root = tmp_path / folder
        for i in range(num_videos):
            (root / f"a b.{i}").mkdir(parents=True)
            (root / f"a b.{i}" / "é.1.MP4").write_bytes(bytes([i % 251]) * (500 + 7 * i))
        paths = pa.array([f"a b.{i}/é.1.MP4" for i in range(num_videos)])
        labels = np.arange(num_videos) % 3
        return VideoTable(
            **{"paths": paths, "labels": labels, "class_names": ("hop", "run", "sit"), "root": root} | columns
        )  # type: ignore[arg-type]

    return write


@pytest.fixture
def bucket() -> Iterator[str]:
    """A URL below which nothing lies."""
    yield "memory://bucket/shards"
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
