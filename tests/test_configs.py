"""Every config parses, builds its net, says in its header what a reader needs, and takes a step at toy size."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser, Namespace
from PIL import Image

from mvit_video.cli import main
from mvit_video.cli.configs import with_found_configs
from mvit_video.data.digits import write_digits
from mvit_video.models import list_models
from mvit_video.training import Task
from mvit_video.training.datamodule import VideoDataModule
from tests.fixtures.places import ROOT

FOLDER = ROOT / "configs"
CONFIGS = sorted(path for path in FOLDER.glob("*.yaml") if not path.stem.startswith("base"))
SMALL_NET = {"num_frames": 2, "crop_size": 16, "depths": "[1]", "embed_dim": 8}
SMALL_PYRAMID = {
    "pyramid.dims": "[8]", "pyramid.num_heads": "[1]", "pyramid.strides_kv": "[[1,2,2]]", "pyramid.mlp_ratios": "[2]",
}  # fmt: skip
SMALL_DATA = {
    "clip.num_frames": 2, "clip.sampling_rate": 2, "input.crop_size": 16, "views.short_side": 16,
    "loading.batch_size": 2, "loading.num_workers": 0,
}  # fmt: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_all_that_are_promised_are_there() -> None:
    assert {path.stem for path in CONFIGS} >= {
        "demo", "finetune", "mvit_b_k400", "mvit_b_32x3_k400", "mvit_b_k600", "mvitv2_s_k400", "mvitv2_b_k400",
        "mvitv2_s_ssv2", "mvit_b_charades", "mvit_b_16_imagenet", "demo_pvt", "demo_pvt_v2", "demo_twins", "demo_cpvt",
        "pvt_small_k400", "cpvt_s_k400", "pvt_small_imagenet", "cpvt_s_imagenet", "mvitv2_t_imagenet",
        "mvitv2_s_imagenet", "mvitv2_b_imagenet", "mvit_b24_32x3_k400", "mvit_b24_32x3_k600", "mvitv2_b_ssv2",
        "mvitv2_l_ssv2", "mvitv2_l_40x3_k400", "mvitv2_b_in21k_k400",
        "demo_alternet", "alternet_50_k400", "pvt_v2_b2_k400", "twins_pcpvt_small_k400",
    }  # fmt: skip


def test_the_docs_say_which_published_file_is_which_net() -> None:
    section = (FOLDER.parent / "docs" / "models.md").read_text().split("## Which published file is which net")[1]
    rows = [row.split("|") for row in section.split("\n## ")[0].splitlines() if row.startswith("| ") and "`" in row]
    for _, file, _, net, config, *_ in rows:
        for name in itertools.chain(*map(spelled_out, re.findall(r"`((?:mvit)[\w{},]+)`", net))):
            assert name in list_models(), file
        for name in itertools.chain(*map(spelled_out, re.findall(r"`([\w{},]+)\.yaml`", config))):
            assert (FOLDER / f"{name}.yaml").is_file(), file
    assert len(rows) > 10


def spelled_out(pattern: str) -> list[str]:
    """Return the names that match a pattern such as `mvitv2_{s,b}_ssv2`."""
    start, brace, rest = pattern.partition("{")
    choices, _, end = rest.partition("}")
    return [start + choice + end for choice in choices.split(",")] if brace else [pattern]


def test_header_states_command_and_published_and_own_result(config: Path) -> None:
    header = "".join(line for line in config.read_text().splitlines(keepends=True) if line.startswith("#"))
    for word in ("Data:", f"lightning fit  -c configs/{config.name}", "Published:", "Here:"):
        assert word in header


def parsed(config: Path) -> tuple[ArgumentParser, Namespace]:
    """Return the settings of a config, merged into its base configs."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--base", type=str)
    parser.add_argument("--seed_everything", type=int)
    parser.add_argument("--trainer", type=dict)
    parser.add_class_arguments(Task, "model")
    parser.add_class_arguments(VideoDataModule, "data")
    return parser, parser.parse_args(with_found_configs(["-c", str(config)]))


def test_every_key_is_known_and_the_net_fits_the_data(config: Path) -> None:
    parser, settings = parsed(config)
    with torch.device("meta"):
        run = parser.instantiate(settings)
    assert run.model.net.num_frames == run.data.clip.num_frames
    assert run.model.net.crop_size == run.data.input.crop_size


@pytest.mark.parametrize(
    ("name", "images", "rates"),
    [
        # SlowFast's configs have 2.5e-4, 1e-8 and 1e-6 for 256 images, all in proportion to the images
        ("mvit_b_16", 256, (1e-8, 2.5e-4, 1e-6)),
        ("mvitv2_t", 2048, (8e-8, 2e-3, 8e-6)),
        ("pvt_small", 1024, (1e-6, 1e-3, 1e-5)),
        ("cpvt_s", 2048, (1e-6, 2e-3, 1e-5)),
    ],
)
def test_images_are_trained_as_published(name: str, images: int, rates: tuple[float, float, float]) -> None:
    _, settings = parsed(FOLDER / f"{name}_imagenet.yaml")
    schedule, augment, views = settings.model.schedule, settings.data.augment, settings.data.views
    peak = settings.model.optimizer.init_args.lr * images / schedule.reference_clips
    assert (schedule.start_factor * peak, peak, schedule.end_factor * peak) == pytest.approx(rates)
    assert (augment.pipeline, augment.repeats, settings.data.input.decode_short_side) == ("image", 1, None)
    assert (views.short_side, views.interpolation) == (256, "bicubic")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations with one label per video, and with several; a folder of classes; folders of images."""
    folder = tmp_path_factory.mktemp("videos")
    digits = write_digits(folder, num_train=8, num_val=4)
    rows = [{"path": str(path), "labels": [0, 3]} for path in sorted(digits.glob("train/**/*.mp4"))]
    (folder / "several.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("cat", "dog"):
        (folder / "pictures" / name).mkdir(parents=True)
        (folder / "classes" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (40, 30), (40 * i, 0, 0)).save(folder / "pictures" / name / f"{i}.jpg")
            (folder / "classes" / name / f"{i}.mp4").symlink_to(rows[i]["path"])
    (folder / "train.csv").symlink_to(digits / "train.csv")
    return folder


def test_takes_a_step_at_toy_size(
    config: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net, data, source = SMALL_NET | {"num_classes": 4}, dict(SMALL_DATA), str((videos / "train.csv").resolve())
    if config.stem == "mvit_b_charades":
        source = str(videos / "several.jsonl")
    elif config.stem.endswith("imagenet"):
        source = str(videos / "pictures")
        net["num_frames"] = data["clip.num_frames"] = 1
        net["num_classes"] = 2
    if config.stem in ("finetune", "small"):
        data["root"], net["num_classes"] = str(videos / "classes"), 0
    else:
        data |= {"train": source, "val": source, "root": "null"}
    if config.stem in ("demo", "small"):
        net["patch.kernel"] = net["patch.stride"] = "[1,8,8]"
    elif "cpvt" in config.stem and "twins" not in config.stem:
        net["num_heads"] = 2
    elif "alternet" in config.stem:
        net = {key: net[key] for key in ("num_classes", "num_frames", "crop_size")}
        net |= {"depths": "[1,2,1,1]", "num_pairs": "[0,1,0,0]"}
    elif "pvt" in config.stem or "twins" in config.stem:
        del net["embed_dim"]
        net |= SMALL_PYRAMID
    words = [f"--model.net.init_args.{key}={value}" for key, value in net.items()]
    words += [f"--data.{key}={value}" for key, value in data.items()]
    words += ["--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.fast_dev_run=1"]
    words += ["--model.schedule.warmup_epochs=0"]
    assert main(["fit", "-c", str(config), *words]) == 0, capsys.readouterr().err
    assert "val loss" in capsys.readouterr().out
