"""Every config parses, builds its net and says in its header what a reader needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from mvit_video.data.datamodule import VideoDataModule
from mvit_video.training import Task

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_header_states_command_and_published_and_own_result(config: Path) -> None:
    header = "".join(line for line in config.read_text().splitlines(keepends=True) if line.startswith("#"))
    for word in ("Data:", f"lightning fit  -c configs/{config.name}", "Published:", "Here:"):
        assert word in header


def test_every_key_is_known_and_the_net_fits_the_data(config: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Task, "model")
    parser.add_class_arguments(VideoDataModule, "data")
    settings = yaml.safe_load(config.read_text())
    parsed = parser.parse_object({key: settings[key] for key in ("model", "data")})
    with torch.device("meta"):
        run = parser.instantiate(parsed)
    assert run.model.net.num_frames == run.data.clip.num_frames
    assert run.model.net.crop_size == run.data.crop_size
