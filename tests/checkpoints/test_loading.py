"""What a load reports, what it refuses, and how positions and kernels of another size are fitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import mvit_video as mv
from mvit_video.checkpoints import export_state
from mvit_video.models import Patch, Pooling
from tests.fixtures.nets import MakeNet


def test_report_names_everything(make_v1: MakeNet) -> None:
    state = make_v1().state_dict()
    state["blocks.0.extra"] = torch.zeros(3)
    state["head.projection.weight"] = torch.zeros(7, 48)
    del state["norm.bias"]
    net = make_v1(num_frames=8)
    report = mv.load_checkpoint(net, state, strict=False)
    assert isinstance(report, mv.LoadReport)
    assert report.missing == ["norm.bias"]
    assert report.unexpected == ["blocks.0.extra"]
    assert [str(change) for change in report.resized] == ["position.temporal (1, 2, 12) -> (1, 4, 12), linear"]
    assert [change[:3] for change in report.mismatched] == [("head.projection.weight", (7, 48), (5, 48))]
    assert set(report.loaded) == net.state_dict().keys() - {"norm.bias", "head.projection.weight"}
    assert str(report).splitlines() == [
        f"the state dict (mvit_video): {len(report.loaded)} tensors loaded, 1 missing, 1 unexpected, 1 resized",
        "  missing: norm.bias",
        "  unexpected: blocks.0.extra",
        "  mismatched: head.projection.weight (7, 48) -> (5, 48), not loaded",
        "  resized: position.temporal (1, 2, 12) -> (1, 4, 12), linear",
        "  strides are not in the file; assumed as the model has it: stride_q=(1, 2, 2), stride_kv=(1, 4, 4)",
        "  head_pool is not in the file; assumed as the model has it: cls",
        "  mean, std, sampling rate and activation are not in the file; assumed as published for clips: "
        "mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225), 8x4, softmax",
    ]


def test_report_stays_short() -> None:
    report = mv.LoadReport("net.pth", "slowfast", missing=[f"key{i}" for i in range(300)])
    assert str(report).splitlines()[1:] == ["  missing: key0; key1; key2 and 297 more"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("norm.bias"), r"1 missing \(first norm\.bias\)"),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 unexpected \(first extra\)"),
        (lambda s: s.update(_extra_state={"a": 1}), r"1 unexpected \(first _extra_state\)"),
        (
            lambda s: s.update({"norm.bias": torch.zeros(9)}),
            r"1 of another shape \(first norm\.bias \(9,\), the model has \(48,\)\)",
        ),
        (lambda s: s.update({"norm.bias": torch.zeros(48, dtype=torch.int64)}), r"1 of another shape \(first norm"),
        (lambda s: s["norm.bias"].fill_(torch.nan), r"is damaged: 1 with NaN or infinity \(first norm\.bias\)"),
        (lambda s: s["norm.bias"].fill_(torch.inf), r"is damaged: 1 with NaN or infinity \(first norm\.bias\)"),
    ],
)
def test_strict_refuses_and_leaves_the_model_as_it_was(
    make_v1: MakeNet, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    state: dict[str, Any] = {key: value.clone() for key, value in make_v1().state_dict().items()}
    change(state)
    net = make_v1().requires_grad_(False)
    net.class_token.fill_(3)
    with pytest.raises(mv.CheckpointError, match=message) as error:
        mv.load_checkpoint(net, state)
    assert "\n" not in str(error.value)
    assert (net.class_token == 3).all()
    mv.load_checkpoint(net, state, strict=False)
    assert not (net.class_token == 3).any()


def test_another_architecture_is_named_as_such(make_v1: MakeNet, make_v2: MakeNet) -> None:
    with pytest.raises(mv.CheckpointError, match=r"does not fit the model of .* create_model\(checkpoint=...\)"):
        mv.load_checkpoint(make_v1(), make_v2().state_dict())
    with pytest.raises(mv.CheckpointError, match=r"not a model in a known layout .* the first is conv1\.weight"):
        mv.load_checkpoint(make_v1(), {"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)})


def test_precision_is_converted_and_reported(make_v1: MakeNet) -> None:
    net = make_v1()
    report = mv.load_checkpoint(net, {key: value.half() for key, value in net.state_dict().items()})
    assert report.notes == ["float16 converted to float64"]
    assert next(net.parameters()).dtype == torch.float64


def test_weights_without_storage_are_refused(make_v1: MakeNet) -> None:
    with pytest.raises(mv.CheckpointError, match="is on the device meta"):
        mv.load_checkpoint(make_v1().to("meta"), make_v1().state_dict())


def test_separable_positions_are_resized(make_v1: MakeNet) -> None:
    small, large = make_v1(), make_v1(num_frames=16, crop_size=48)
    report = mv.load_checkpoint(large, small.state_dict())
    assert [(change.key, change.found, change.expected, change.how) for change in report.resized] == [
        ("position.spatial", (1, 64, 12), (1, 144, 12), "bicubic"),
        ("position.temporal", (1, 2, 12), (1, 8, 12), "linear"),
    ]
    # the same as the net does at run time to a clip of that size
    clip = torch.randn(1, 3, 16, 48, 48, dtype=torch.float64)
    torch.testing.assert_close(large(clip), small(clip), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("num_frames", "crop_size"), [(12, 32), (4, 48)])
def test_joint_positions_are_resized(make_v1: MakeNet, num_frames: int, crop_size: int) -> None:
    small = make_v1(position="joint")
    large = make_v1(position="joint", num_frames=num_frames, crop_size=crop_size)
    report = mv.load_checkpoint(large, small.state_dict())
    assert [(change.key, change.how) for change in report.resized] == [("position.table", "trilinear")]
    clip = torch.randn(1, 3, num_frames, crop_size, crop_size, dtype=torch.float64)
    torch.testing.assert_close(large(clip), small(clip), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("num_frames", "crop_size", "rows"),
    [
        (8, 48, 577),  # neither time nor space in common
        (16, 32, 513),  # 128 cells are 2 x 8 x 8, or 8 x 4 x 4
    ],
)
def test_joint_positions_of_an_unknown_grid_are_refused(
    make_v1: MakeNet, num_frames: int, crop_size: int, rows: int
) -> None:
    small, large = make_v1(position="joint"), make_v1(position="joint", num_frames=num_frames, crop_size=crop_size)
    shapes = rf"first position\.table \(1, 129, 12\), the model has \(1, {rows}, 12\)"
    with pytest.raises(mv.CheckpointError, match=shapes):
        mv.load_checkpoint(large, small.state_dict())


def test_relative_positions_are_resized(make_v2: MakeNet) -> None:
    small, large = make_v2(), make_v2(num_frames=8, crop_size=64)
    report = mv.load_checkpoint(large, small.state_dict())
    assert len(report.resized) == 15
    assert {change.how for change in report.resized} == {"linear"}
    found = large.blocks[0].attn.rel_pos
    expected = F.interpolate(small.blocks[0].attn.rel_pos.h.T[None], 31, mode="linear")[0].T
    torch.testing.assert_close(found.h, expected)
    assert len(found.t) == 7
    clip = torch.randn(1, 3, 8, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(large(clip), small(clip), rtol=0, atol=1e-9)


@pytest.mark.parametrize("inflate", ["centre", "average"])
def test_images_become_clips(make_v1: MakeNet, image_settings: dict[str, Any], inflate: str) -> None:
    image = make_v1(**image_settings, position="joint")
    clip_net = make_v1(pooling=Pooling(stride_kv=(1, 2, 2)))
    report = mv.load_checkpoint(clip_net, export_state(image, "slowfast"), inflate=inflate)
    assert "joint positions of images became a spatial table; the temporal one is zero" in report.notes
    assert {change.how.split(",")[0] for change in report.resized} == {"inflated", "linear"}
    kernel, stem = image.patch_embed.proj.weight, clip_net.patch_embed.proj.weight
    torch.testing.assert_close(stem.sum(dim=2, keepdim=True), kernel)
    taps = [kernel.flatten() * weight for weight in ([0, 1, 0] if inflate == "centre" else [1 / 3] * 3)]
    torch.testing.assert_close(torch.stack([stem[:, :, i].flatten() for i in range(3)]), torch.stack(taps))
    assert torch.equal(clip_net.position.spatial, image.position.table[:, 1:])
    assert not clip_net.position.temporal.any()


def test_a_net_inflated_on_the_middle_frame_sees_a_still_clip_as_its_image(
    make_v1: MakeNet, image_settings: dict[str, Any]
) -> None:
    image = make_v1(**image_settings)
    still = make_v1(num_frames=1, patch=Patch((3, 7, 7), (1, 4, 4)), pooling=Pooling(stride_kv=(1, 2, 2)))
    mv.load_checkpoint(still, image.state_dict())
    frame = torch.randn(2, 3, 1, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(still(frame), image(frame), rtol=0, atol=1e-12)


def test_images_of_v2_become_clips_with_zero_positions_in_time(
    make_v2: MakeNet, image_v2_settings: dict[str, Any]
) -> None:
    image = make_v2(**image_v2_settings | {"class_token": True})
    clip_net = make_v2(pooling=Pooling(stride_kv=(1, 2, 2), q_everywhere=True, residual=True))
    report = mv.load_checkpoint(clip_net, image.state_dict())
    assert "5 tables of relative positions in time are zero: the checkpoint is of images" in report.notes
    assert not clip_net.blocks[2].attn.rel_pos.t.any()


def test_inflation_of_another_name_is_refused(make_v1: MakeNet) -> None:
    with pytest.raises(mv.ConfigError, match="inflate must be one of centre, average, got 'middle'"):
        mv.load_checkpoint(make_v1(), make_v1().state_dict(), inflate="middle")


def test_a_head_of_other_classes_is_told_as_such(make_v1: MakeNet) -> None:
    classes = (
        r"model has \(5, 48\)\); num_classes=7 builds the model with this head, new_head=True keeps the model's own"
    )
    with pytest.raises(mv.CheckpointError, match=f"{classes}$"):
        mv.load_checkpoint(make_v1(num_classes=5), make_v1(num_classes=7).state_dict())


def test_new_head_for_other_classes(make_v1: MakeNet) -> None:
    net = make_v1(num_classes=9)
    head = net.head.projection.weight.clone()
    report = mv.load_checkpoint(net, make_v1().state_dict(), new_head=True)
    assert torch.equal(net.head.projection.weight, head)
    assert report.notes == ["the head is newly initialised: the checkpoint has 5 classes, the model 9"]
    assert report.head_is_new
    same = mv.load_checkpoint(make_v1(), make_v1().state_dict(), new_head=True)
    assert not same.head_is_new
    backbone = mv.load_checkpoint(make_v1(num_classes=0), make_v1().state_dict(), new_head=True)
    assert backbone.notes == ["the head of 5 classes is ignored: the model has none"]
