"""What training scripts put into a checkpoint beside the weights, and which of several sets of weights is taken."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mvit_video as mv
from mvit_video.checkpoints import pickles, read_checkpoint
from tests.fixtures.nets import MakeNet

A, B = {"a.weight": torch.full((2,), 1.0)}, {"a.weight": torch.full((2,), 2.0)}
AVERAGED = {"n_averaged": torch.tensor(3), "module.a.weight": B["a.weight"]}  # of torch's AveragedModel
BOTH = {"model.a.weight": A["a.weight"], "model_ema.a.weight": B["a.weight"]}
VALUES: dict[str, Any] = {
    "float": np.float64(1.5), "single": np.float32(0.25), "half": np.float16(2), "int": np.int64(-7),
    "byte": np.uint8(200), "bool": np.bool_(True), "complex": np.complex64(1 + 2j), "text": np.str_("run"),
    "big_endian": np.array([1, 2], ">i4"), "plane": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "names": np.array(["run", None], object), "empty": np.zeros((0, 3)), "number": np.array(3.5),
}  # fmt: skip


def value_of(content: Any, **options: Any) -> float:
    (tensor,) = read_checkpoint(content, **options).tensors.values()
    return float(tensor[0])


@pytest.mark.parametrize("module", ["numpy._core", "numpy.core"], ids=["numpy 2", "numpy 1"])
def test_values_of_numpy_are_read_as_they_were_written(module: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"model": A, "rng": np.random.get_state(), "values": VALUES}, path, _use_new_zipfile_serialization=False)
    # as NumPy of either number writes them: names of pickles end at a line break
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", f"{module}.multiarray".encode()))
    assert value_of(path) == 1
    found = pickles.read_pickle(path)[0]["values"]
    for key, expected in VALUES.items():
        np.testing.assert_array_equal(found[key], expected)
        assert found[key].dtype == expected.dtype.newbyteorder("=")


def test_plain_values_of_scripts_are_read(tmp_path: Path) -> None:
    args = argparse.Namespace(lr=np.float32(0.1), out=Path("runs") / "x")
    torch.save({"model": A, "args": args, "epoch": np.int64(3)}, tmp_path / "net.pth")
    assert value_of(tmp_path / "net.pth") == 1


@pytest.mark.parametrize("value", [np.datetime64("2020-01-01"), np.zeros(2, [("x", "f4")])])
def test_other_types_of_numpy_are_refused_by_name(value: Any, tmp_path: Path) -> None:
    torch.save({"model": A, "value": value}, tmp_path / "net.pth")
    with pytest.raises(mv.CheckpointError, match=r"net\.pth: holds NumPy values of type '\w+', which are not read"):
        read_checkpoint(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("content", "taken", "note"),
    [
        ({"module": A, "global_steps": 3}, 1, None),
        ({"model": {"module": A}}, 1, None),
        ({"state_dict_ema": B}, 2, "took its state_dict_ema, averaged over training"),
        ({"ema": {"module": B, "updates": 7}}, 2, "took its ema, averaged over training"),
        ({"model": A, "model_ema": B}, 1, "took its model, not model_ema; use_ema=True takes model_ema"),
        ({"model_ema": B, "state_dict": A, "ema_decay": 0.9}, 1, "took its state_dict, not model_ema; use_ema=True"),
        ({"model": A, "ema": {"module": B}}, 1, "took its model, not ema; use_ema=True takes ema"),
        ({"net": A, "model": B}, 2, "took its model, not net"),
        ({"state_dict": A, "swa_state_dict": B}, 1, "took its state_dict, not swa_state_dict"),
        ({"model": A, "model_EMA": AVERAGED}, 1, "took its model, not model_EMA; use_ema=True takes model_EMA"),
        ({"model_ema": AVERAGED}, 2, "took its model_ema, averaged over training"),
        ({"state_dict": AVERAGED}, 2, "took its weights, averaged over training"),
        (AVERAGED, 2, "took its weights, averaged over training"),
        ({"state_dict": BOTH}, 1, "took its weights, not model_ema; use_ema=True takes model_ema"),
        ({"model": {"depth": 16}, "net": A}, 1, None),  # a config by the name of weights
    ],
)
def test_the_weights_are_found_and_the_choice_is_noted(content: dict[str, Any], taken: float, note: str | None) -> None:
    assert value_of(content) == taken
    state = read_checkpoint(content)
    assert len(state.notes) == (note is not None)
    assert all(text.startswith(note or "") for text in state.notes)


def test_the_other_weights_can_be_asked_for() -> None:
    assert value_of({"state_dict": BOTH}, use_ema=False) == 1
    assert value_of({"state_dict": BOTH}, use_ema=True) == 2
    for ema in ({"model_ema": B}, {"state_dict_ema": B}, {"ema": {"module": B}}, {"ema_state": B}):
        assert value_of({"model": A, **ema}, use_ema=True) == 2
        assert value_of({"model": A, **ema}, use_ema=False) == 1
        with pytest.raises(mv.CheckpointError, match=r"holds averaged weights \(EMA\) only; leave out use_ema=False"):
            read_checkpoint(ema, use_ema=False)
    with pytest.raises(mv.CheckpointError, match=r"holds no averaged weights \(EMA\); leave out use_ema=True"):
        read_checkpoint({"model": A}, use_ema=True)


def test_weights_that_lightning_averages_stand_where_the_others_would() -> None:
    content = {
        "pytorch-lightning_version": "2.6", "state_dict": B, "current_model_state": A, "averaging_state": {"n": 1},
    }  # fmt: skip
    assert (value_of(content), value_of(content, use_ema=True), value_of(content, use_ema=False)) == (2, 2, 1)
    (note,) = read_checkpoint(content).notes
    assert note == "took its state_dict, averaged over training, not current_model_state; " + (
        "use_ema=False takes current_model_state"
    )


def test_the_choice_reaches_report_and_model(make_v1: MakeNet, caplog: pytest.LogCaptureFixture) -> None:
    net = make_v1()
    averaged: dict[str, Tensor] = {key: value + 1 for key, value in net.state_dict().items()}
    content = {"model": net.state_dict(), "model_ema": averaged}
    report = mv.load_checkpoint(make_v1(), content)
    assert "  took its model, not model_ema; use_ema=True takes model_ema" in str(report).splitlines()
    built = mv.create_model(checkpoint=content).state_dict()
    assert "took its model, not model_ema" in caplog.text
    assert torch.equal(built["class_token"], net.class_token.float())
    net = make_v1()
    mv.load_checkpoint(net, content, use_ema=True)
    assert torch.equal(net.class_token, averaged["class_token"])
