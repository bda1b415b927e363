"""Fixtures that every test may use."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

# the same examples in every run, however slow the machine
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

REAL_VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """Folder of real clips that are not part of the repository."""
    if not REAL_VIDEOS.is_dir():
        pytest.skip("the folder of real videos (../shared/videos) is not present")
    return REAL_VIDEOS
