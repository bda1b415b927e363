"""Checkpoints of SlowFast that carry their settings as text, `cfg`: the net and its input are as the settings say.

Outside the tests the nets were compared with SlowFast's own (facebookresearch/SlowFast at 287ec00, float32, random
weights, 64 pixels): logits of its MaskFeat, MViT, MViTv2, ViT and ImageNet settings are equal to 3e-6.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import mvit_video as mv
from mvit_video.checkpoints import build_model, export_state
from mvit_video.models import Patch, Pooling, mvit, mvitv2
from mvit_video.models.families.mvit.slowfast_config import (
    facts_in_config,
    recipe_in_config,
    unstated_in_config,
)
from tests.fixtures.nets import ClipFor, MakeNet

MASKFEAT: dict[str, Any] = {  # k400_MVITv2_S_16x4_FT.yaml at the size of these tests
    "MVIT": {
        "MODE": "conv", "CLS_EMBED_ON": True, "USE_MEAN_POOLING": True, "DIM_MUL_IN_ATT": False, "NORM": "layernorm",
        "PATCH_KERNEL": [3, 7, 7], "PATCH_STRIDE": [2, 4, 4], "PATCH_PADDING": [1, 3, 3], "PATCH_2D": False,
        "EMBED_DIM": 12, "NUM_HEADS": 1, "DEPTH": 5, "DROPPATH_RATE": 0.1, "MLP_RATIO": 4.0, "QKV_BIAS": True,
        "DIM_MUL": [[1, 2.0], [3, 2.0]], "HEAD_MUL": [[1, 2.0], [3, 2.0]],
        "POOL_Q_STRIDE": [[0, 1, 1, 1], [1, 1, 2, 2], [2, 1, 1, 1], [3, 1, 2, 2], [4, 1, 1, 1]],
        "POOL_KV_STRIDE_ADAPTIVE": [1, 4, 4], "POOL_KV_STRIDE": [], "POOL_KVQ_KERNEL": [3, 3, 3],
        "RESIDUAL_POOLING": True, "USE_ABS_POS": False, "SEP_POS_EMBED": True, "REL_POS_SPATIAL": True,
        "REL_POS_TEMPORAL": True, "POOL_FIRST": False, "NORM_STEM": False, "REV": {"ENABLE": False},
    },
    "DATA": {
        "NUM_FRAMES": 4, "SAMPLING_RATE": 4, "TRAIN_CROP_SIZE": 32, "TEST_CROP_SIZE": 32,
        "MEAN": [0.45, 0.45, 0.45], "STD": [0.225, 0.225, 0.225], "REVERSE_INPUT_CHANNEL": False,
    },
    "MODEL": {"DROPOUT_RATE": 0.0, "HEAD_ACT": "softmax", "NUM_CLASSES": 5},
    "TRAIN": {"DATASET": "kinetics"},
}  # fmt: skip


def text_of(changes: Mapping[str, Any] | None = None) -> str:
    """Settings with changes by dotted key, as SlowFast dumps them."""
    values = copy.deepcopy(MASKFEAT)
    for key, value in (changes or {}).items():
        group, name = key.split(".", 1)
        values[group][name] = value
    return yaml.safe_dump(values)


def _tensors(num_blocks: int, embed_dim: int) -> dict[str, torch.Tensor]:
    """What the settings are compared with: blocks, channels of the stem, five classes."""
    names = [f"blocks.{index}.norm1.weight" for index in range(num_blocks)]
    return dict.fromkeys(names, torch.empty(1)) | {
        "patch_embed.proj.weight": torch.empty(embed_dim, 3, 3, 7, 7),
        "head.projection.weight": torch.empty(5, 48),
    }


def in_config(changes: Mapping[str, Any] | None = None, num_blocks: int = 5, embed_dim: int = 12) -> dict[str, Any]:
    text = text_of(changes)
    return recipe_in_config(text, _tensors(num_blocks, embed_dim)).arguments


@pytest.fixture
def maskfeat(make_v2: MakeNet) -> Any:
    """SlowFast's fine-tuned net: a class token, which its head does not read."""
    return make_v2(expand_in_attention=False, head_pool="mean_of_patches")


@pytest.fixture
def file_of(maskfeat: Any) -> dict[str, Any]:
    """What SlowFast writes of it."""
    return {"epoch": 3, "model_state": export_state(maskfeat, "slowfast"), "optimizer_state": {}, "cfg": text_of()}


@torch.no_grad()
def test_a_net_whose_head_takes_the_mean_is_built_by_the_settings(
    maskfeat: Any, file_of: dict[str, Any], clip_for: ClipFor
) -> None:
    clip = clip_for(maskfeat)
    found = build_model(checkpoint=file_of)
    report = found.load_report
    assert report is not None
    assert (len(report.loaded), report.missing, report.unexpected, report.assumed) == (
        len(found.state_dict()),
        [],
        [],
        {},
    )
    torch.testing.assert_close(found.double().eval()(clip), maskfeat(clip), rtol=0, atol=1e-4)  # float32 between them
    assert found.recipe.arguments["head_pool"] == "mean_of_patches"
    report = mv.load_checkpoint(found, file_of)
    assert (report.faults, report.assumed) == ([], {})
    torch.testing.assert_close(found(clip), maskfeat(clip), rtol=0, atol=1e-12)
    small: dict[str, Any] = {"num_frames": 4, "crop_size": 32, "depths": (1, 2, 2), "embed_dim": 12}
    named = mv.create_model("mvitv2_s_16x4", checkpoint=file_of, expand_in_attention=False, **small)
    torch.testing.assert_close(named.double().eval()(clip), maskfeat(clip), rtol=0, atol=1e-4)
    assert named.recipe.arguments["pooling"].stride_kv == (1, 4, 4)  # its own would be (1, 8, 8)


@torch.no_grad()
def test_without_settings_the_assumptions_are_said_and_can_be_replaced(
    maskfeat: Any, file_of: dict[str, Any], clip_for: ClipFor, caplog: pytest.LogCaptureFixture
) -> None:
    del file_of["cfg"]
    found = build_model(checkpoint=file_of)
    report = found.load_report
    assert report is not None
    assert list(report.assumed) == ["stride", "head_pool", "norm_eps", "training"]
    text = "head_pool is not in the file; assumed as published: cls (SlowFast with USE_MEAN_POOLING: mean_of_patches)"
    assert text in str(report)
    assert "mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225), 4x4, softmax" in str(report)
    assert "head_pool is not in the file; assumed as the model has it: cls" in str(mv.load_checkpoint(found, file_of))
    found = mv.create_model(checkpoint=file_of, head_pool="mean_of_patches")
    assert "head_pool is not in the file" not in caplog.text
    assert "strides are not in the file; assumed as published: stride_q=(1, 2, 2), stride_kv=(1, 4, 4)" in caplog.text
    clip = clip_for(maskfeat)
    torch.testing.assert_close(found.double().eval()(clip), maskfeat(clip), rtol=0, atol=1e-4)


def test_a_model_that_is_not_as_the_file_says_is_refused(
    make_v1: MakeNet, make_v2: MakeNet, file_of: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other, text = make_v2(expand_in_attention=False), "head_pool is mean_of_patches in the file, cls in the model"
    with pytest.raises(mv.CheckpointError, match=text):
        mv.load_checkpoint(other, file_of)
    assert text in mv.load_checkpoint(other, file_of, strict=False).notes
    new_head = make_v2(expand_in_attention=False, num_classes=3)
    assert text in mv.load_checkpoint(new_head, file_of, new_head=True).notes
    with caplog.at_level(logging.INFO):
        mv.create_model(checkpoint=file_of, head_pool="gap")
    assert "head_pool is mean_of_patches in the file, gap in the model" in caplog.text
    mv.save_checkpoint(make_v1(), tmp_path / "net.safetensors")
    other = make_v1(pooling=Pooling(stride_kv=(1, 2, 2)))
    with pytest.raises(mv.CheckpointError, match=r"stride_kv is \(1, 4, 4\) in the file, \(1, 2, 2\) in the model"):
        mv.load_checkpoint(other, tmp_path / "net.safetensors")


BASE = {"num_classes": 5, "num_frames": 4, "crop_size": 32, "depths": (1, 2, 2), "embed_dim": 12, "num_heads": 1}
V1 = {"MVIT.REL_POS_SPATIAL": False, "MVIT.RESIDUAL_POOLING": False, "MVIT.USE_ABS_POS": True}
V1 |= {"MVIT.POOL_Q_STRIDE": [[1, 1, 2, 2], [3, 1, 2, 2]]}
STRIDES = [[0, 1, 4, 4], [1, 1, 2, 2], [2, 1, 2, 2], [3, 1, 1, 1], [4, 1, 1, 1]]
NO_POOLS = dict.fromkeys(["MVIT.POOL_KVQ_KERNEL", "MVIT.POOL_KV_STRIDE_ADAPTIVE"], None)
PLAIN = V1 | NO_POOLS | {key: [] for key in ("MVIT.DIM_MUL", "MVIT.HEAD_MUL", "MVIT.POOL_Q_STRIDE")}
SQUARES = {
    "MVIT.PATCH_KERNEL": [7, 7], "MVIT.PATCH_STRIDE": [4, 4], "MVIT.PATCH_PADDING": [3, 3],
    "MVIT.POOL_Q_STRIDE": [[0, 1, 1], [1, 2, 2], [2, 1, 1], [3, 2, 2], [4, 1, 1]],
    "MVIT.POOL_KV_STRIDE_ADAPTIVE": [2, 2], "MVIT.POOL_KVQ_KERNEL": [3, 3], "MVIT.CLS_EMBED_ON": False,
    "MVIT.USE_MEAN_POOLING": False,
}  # fmt: skip
V1_POOLS, V2_POOLS = Pooling(stride_kv=(1, 4, 4)), Pooling(stride_kv=(1, 4, 4), q_everywhere=True, residual=True)
SQUARE_POOLS = Pooling(kernel=(1, 3, 3), stride_kv=(1, 2, 2), q_everywhere=True, residual=True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"pooling": V2_POOLS, "position": "relative", "head_pool": "mean_of_patches"}),
        ({"MVIT.USE_MEAN_POOLING": False}, {"head_pool": "cls"}),
        ({"MVIT.USE_MEAN_POOLING": False, "MVIT.CLS_EMBED_ON": False}, {"head_pool": "gap", "class_token": False}),
        (V1, {"pooling": V1_POOLS, "position": "separable"}),
        (V1 | {"MVIT.SEP_POS_EMBED": False}, {"position": "joint"}),
        (V1 | {"MVIT.MODE": "max"}, {"pooling": replace(V1_POOLS, mode="max")}),
        (V1 | {"MVIT.POOL_KVQ_KERNEL": None}, {"pooling": replace(V1_POOLS, kernel=None)}),
        (V1 | {"MVIT.POOL_KV_STRIDE_ADAPTIVE": None, "MVIT.POOL_KV_STRIDE": STRIDES}, {"pooling": V1_POOLS}),
        (PLAIN, {"depths": (5,), "pooling": Pooling(kernel=None, stride_kv=None)}),
        (SQUARES, {"num_frames": 1, "patch": Patch((1, 7, 7), (1, 4, 4)), "pooling": SQUARE_POOLS}),
    ],
)
def test_settings_are_arguments_of_a_builder(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    found = in_config(changes)
    assert {key: found[key] for key in BASE | expected} == BASE | expected
    with torch.device("meta"):
        net = (mvitv2 if "expand_in_attention" in found else mvit)(**found)
    assert net.recipe.arguments["head_pool"] == found["head_pool"]


FIRST = {  # a row for each block; the last two have no K/V pools
    "MVIT.POOL_Q_STRIDE": [[], [1, 2, 2], [], [1, 2, 2], []], "MVIT.POOL_Q_KERNEL": [[], [3, 3, 3], [], [3, 3, 3], []],
    "MVIT.POOL_KV_STRIDE": [[1, 4, 4], [1, 2, 2], [1, 2, 2], [1, 1, 1], [1, 1, 1]],
    "MVIT.POOL_KV_KERNEL": [[3, 3, 3]] * 3 + [[1, 1, 1]] * 2,
}  # fmt: skip
SECOND = {key: [[block, *row] for block, row in enumerate(rows) if row] for key, rows in FIRST.items()}


@pytest.mark.parametrize("rows", [FIRST, SECOND])
def test_settings_of_june_2021_list_kernels_block_by_block(rows: dict[str, Any]) -> None:
    found = in_config(V1 | NO_POOLS | rows)
    assert found["pooling"] == replace(V1_POOLS, kv_at_stride_1=False)


def test_values_that_yaml_reads_as_text_are_read_as_slowfast_does() -> None:
    changes = {"MVIT.DROPPATH_RATE": "1e-1", "MVIT.PATCH_KERNEL": "(3, 7, 7)", "MVIT.USE_MEAN_POOLING": "True"}
    changes |= {"MVIT.NUM_HEADS": 1.0, "MVIT.POOL_KVQ_KERNEL": "[3, 3, 3]", "DATA.MEAN": "(0.5, 0.5, 0.5)"}
    assert in_config(changes) == in_config()
    assert facts_in_config(text_of(changes)).mean == (0.5, 0.5, 0.5)
    assert facts_in_config(text_of() + "EXTRA: !!python/tuple [1]\n") == facts_in_config(text_of())
    text = yaml.dump({"MVIT": MASKFEAT["MVIT"], "DATA": MASKFEAT["DATA"] | {"MEAN": (0.5, 0.5, 0.5)}})
    assert "!!python/tuple" in text
    assert facts_in_config(text).mean == (0.5, 0.5, 0.5)


def test_what_old_settings_do_not_state_is_said(file_of: dict[str, Any], maskfeat: Any) -> None:
    values = yaml.safe_load(file_of["cfg"])
    del values["MODEL"]["HEAD_ACT"]
    file_of["cfg"] = yaml.safe_dump(values)
    assumed = mv.load_checkpoint(maskfeat, file_of).assumed
    assert list(assumed) == ["cfg"]
    assert assumed["cfg"].endswith("assumed as SlowFast's defaults: MODEL.HEAD_ACT=softmax")
    assert "norm_eps" in unstated_in_config("MVIT: {DEPTH: 5}")
    assert "DATA.SAMPLING_RATE=8" in unstated_in_config("MVIT: {DEPTH: 5}")["cfg"]
    assert "SAMPLING_RATE" not in unstated_in_config("MVIT: {PATCH_KERNEL: [7, 7]}")["cfg"]


@pytest.mark.parametrize("changes", [{"DATA.MEAN": [0.5]}, {"DATA.STD": [0, 0, 0]}, {"MODEL.HEAD_ACT": "relu"}])
def test_settings_that_do_not_tell_the_input_are_said(changes: dict[str, Any], file_of: dict[str, Any]) -> None:
    net = build_model(checkpoint=file_of | {"cfg": text_of(changes)})
    report = net.load_report
    assert report is not None
    assert net.recipe.arguments["head_pool"] == "mean_of_patches"
    assert "training" in report.assumed
    assert any(note.startswith("its cfg does not describe the input") for note in report.notes)


def test_settings_tell_what_the_weights_were_trained_with() -> None:
    facts = facts_in_config(text_of({"DATA.MEAN": [0.485, 0.456, 0.406], "DATA.STD": [0.229, 0.224, 0.225]}))
    assert (facts.mean, facts.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (facts.sampling_rate, facts.activation) == (4, "softmax")
    # frames that SlowFast reads as BGR are normalised before they become RGB
    changes = {"DATA.MEAN": [0.485, 0.456, 0.406], "DATA.REVERSE_INPUT_CHANNEL": True, "TRAIN.DATASET": "ssv2"}
    facts = facts_in_config(text_of(changes | {"MODEL.HEAD_ACT": "sigmoid", "DATA.SAMPLING_RATE": 3}))
    assert (facts.mean, facts.sampling_rate, facts.activation) == ((0.406, 0.456, 0.485), 3, "sigmoid")
    assert facts_in_config(text_of(changes | {"DATA.MEAN": "(0.1, 0.2, 0.3)"})).mean == (0.3, 0.2, 0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MVIT.POOL_FIRST": True}, r"MVIT\.POOL_FIRST=True; nets here have False"),
        ({"MVIT.DEPTH": 10**9}, r"MVIT\.DEPTH=1000000000, expected a whole number from 1 to 1000000"),
        ({"MVIT.DEPTH": 6}, r"MVIT\.DEPTH=6, its tensors have 5"),
        ({"MVIT.MODE": "conv_unshared"}, "expected conv, max or avg"),
        ({"MVIT.PATCH_PADDING": [2, 4, 4]}, r"PATCH_PADDING=\[2, 4, 4\]; nets here have \[1, 3, 3\]"),
        ({"MVIT.POOL_Q_STRIDE": [[1, 1, 2, 2], [3, 1, 4, 4]]}, "follow no rule of nets here"),
        ({"MVIT.POOL_Q_STRIDE": [[9, 1, 2, 2]]}, "a block below 5"),
        ({"MVIT.POOL_Q_STRIDE": "\x1b[31m"}, r"POOL_Q_STRIDE='\\x1b\[31m', expected a list"),
        ({"MVIT.DIM_MUL": [[1, 3.0]]}, "pairs of a block and 2.0"),
        ({"MVIT.HEAD_MUL": []}, "at different blocks"),
        ({"MVIT.POOL_KVQ_KERNEL": [2, 2, 2]}, "must be odd"),
        ({"DATA.TRAIN_CROP_SIZE": 48}, "and its tensors disagree: blocks"),
        ({"DATA.NUM_FRAMES": True}, r"NUM_FRAMES=True, expected a whole number"),
    ],
)
def test_settings_of_no_net_here_are_one_line(
    changes: dict[str, Any], message: str, file_of: dict[str, Any], maskfeat: Any
) -> None:
    file_of["cfg"] = text_of(changes)
    with pytest.raises(mv.CheckpointError, match=rf"^the state dict: its cfg (.*){message}") as caught:
        mv.create_model(checkpoint=file_of)
    assert "\n" not in str(caught.value)
    report = mv.load_checkpoint(maskfeat, file_of)  # whose caller says what the net is
    assert any(note.startswith("its cfg ") and note.endswith(": not used") for note in report.notes)
    assert "head_pool" in report.assumed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "MVIT: [",
        "MVIT: 3",
        "!!python/object/apply:os.system ['false']",
        "a: &a [*a]",
        "[" * 5000,
        "\x00",
        "MVIT: {}",
    ],
)
def test_text_that_is_no_settings_is_one_line(text: str, file_of: dict[str, Any]) -> None:
    with pytest.raises(mv.CheckpointError, match=r"^the state dict: its cfg ") as caught:
        mv.create_model(checkpoint=file_of | {"cfg": text})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
KEYS = [f"{group}.{key}" for group in ("MVIT", "DATA", "MODEL") for key in MASKFEAT[group]]


@settings(max_examples=60, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(KEYS), anything, min_size=1, max_size=3))
def test_any_value_is_built_or_refused_in_one_line(changes: dict[str, Any]) -> None:
    text = text_of(changes)
    for read in (
        lambda: recipe_in_config(text, _tensors(5, 12)),
        lambda: facts_in_config(text),
    ):
        message = ""
        try:
            read()
        except mv.CheckpointError as error:
            message = str(error)
        assert "\n" not in message
