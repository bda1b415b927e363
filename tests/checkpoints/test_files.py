"""Files that are cut off, spoilt, hostile or no checkpoints: told apart in one line that names the file."""

from __future__ import annotations

import argparse
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mvit_video as mv
from mvit_video.checkpoints import files, read_checkpoint
from tests.fixtures.nets import MakeNet


class RunsCode:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch executed",)


def _legacy(path: Path, content: Any) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _script(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/constants.pkl", b"")
        archive.writestr("net/data.pkl", b"")


def _archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("report/document.xml", "<xml/>")


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.touch(), "the file is empty"),
    "text": (lambda path: path.write_text("a log of some training"), "not a checkpoint; expected a file written by"),
    "archive": (_archive, "not a checkpoint but another kind of archive"),
    "script": (_script, r"a TorchScript program, which is code; save its state_dict\(\) instead"),
    "code": (lambda path: torch.save({"model_state": RunsCode()}, path), r"needs code to be read \(\w+\.system\)"),
    "legacy_code": (lambda path: _legacy(path, {"a": RunsCode()}), r"needs code to be read \(\w+\.system\)"),
    "module": (lambda path: torch.save(torch.nn.Linear(1, 1), path), "needs code to be read"),
    "list": (lambda path: torch.save([torch.zeros(1)], path), "holds a list; expected a mapping"),
    "no_tensors": (lambda path: torch.save({"epoch": 3}, path), "holds no tensors; its entries are epoch"),
    "nothing": (lambda path: torch.save({}, path), "holds no tensors; it is empty"),
    "resnet": (lambda path: torch.save({"conv1.weight": torch.zeros(1)}, path), "not a model in a known layout"),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_wrong_with_a_file_is_told(
    kind: str, make_v1: MakeNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.pyth"
    write, message = FILES[kind]
    write(path)
    with pytest.raises(mv.CheckpointError, match=f"net.pyth: {message}") as error:
        mv.load_checkpoint(make_v1(), path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


def test_there_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(mv.CheckpointError, match=r"nowhere\.pth: No such file"):
        read_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(mv.CheckpointError, match=r"is a directory without checkpoints/best\.ckpt or last\.ckpt"):
        read_checkpoint(tmp_path)


def test_only_dense_tensors_are_read() -> None:
    with pytest.raises(mv.CheckpointError, match="the state dict: a is sparse or quantised; expected a dense tensor"):
        read_checkpoint({"a": torch.eye(2).to_sparse()})


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_cut_off_file_is_told(kind: str, share: float, make_v1: MakeNet, tmp_path: Path) -> None:
    net, path = make_v1(), tmp_path / "net.pth"
    if kind == "safetensors":
        mv.save_checkpoint(net, path)
    else:
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(mv.CheckpointError, match=r"net\.pth: cut off or damaged"):
        mv.load_checkpoint(net, path)


def test_every_kind_of_file_is_read(make_v1: MakeNet, tmp_path: Path) -> None:
    net, path = make_v1(), tmp_path / "net.anything"
    for key in ("state_dict", "model_state_dict"):
        torch.save({key: net.state_dict(), "epoch": 3}, path)
        assert mv.load_checkpoint(net, str(path)).source == str(path)
    _legacy(path, net.state_dict())
    assert mv.load_checkpoint(net, path).format == "mvit_video"
    mv.save_checkpoint(net, path)
    assert mv.load_checkpoint(net, path).format == "mvit_video"
    torch.save({"model": net.state_dict(), "args": argparse.Namespace(lr=0.1), "epoch": 3}, path)
    assert mv.load_checkpoint(net, path).format == "mvit_video"
    torch.save(
        {"pytorch-lightning_version": "2.6", "state_dict": {f"net.{k}": v for k, v in net.state_dict().items()}}, path
    )
    report = mv.load_checkpoint(net, path)
    assert (report.format, report.notes) == ("lightning", [])


def test_limits(make_v1: MakeNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, path = make_v1(), tmp_path / "net.pth"
    mv.save_checkpoint(net, path)
    state = net.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(files, "MAX_TENSORS", 10)
        for source in (path, state):
            with pytest.raises(mv.CheckpointError, match=rf"{len(state)} tensors; the limit is 10"):
                mv.load_checkpoint(net, source)
    with monkeypatch.context() as patch:
        patch.setattr(files, "MAX_FILE_BYTES", 100)
        with pytest.raises(mv.CheckpointError, match=r"net\.pth: \d+ bytes; the limit is 100"):
            mv.load_checkpoint(net, path)
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, path)  # claims 4 TiB, stores 4 bytes
    with pytest.raises(mv.CheckpointError, match=rf"tensors of {1 << 42} bytes; the limit is"):
        mv.load_checkpoint(net, path)


def test_nothing_half_written_is_left(make_v1: MakeNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, path = make_v1(), tmp_path / "net.safetensors"
    mv.save_checkpoint(net, path)
    before = path.read_bytes()

    def fails(tensors: Any, place: Path, metadata: Any) -> None:
        place.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mvit_video.checkpoints.saving.save_file", fails)
    with pytest.raises(mv.CheckpointError, match=r"net\.safetensors: cannot be written \(No space left on device\)"):
        mv.save_checkpoint(net, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]
    monkeypatch.undo()
    with pytest.raises(mv.CheckpointError, match=r"absent/net\.pth: cannot be written"):
        mv.export_checkpoint(net, tmp_path / "absent" / "net.pth", format="slowfast")


def test_safetensors_carry_what_rebuilds_the_net(make_v1: MakeNet, tmp_path: Path) -> None:
    mv.save_checkpoint(make_v1(), tmp_path / "net.safetensors")
    metadata = read_checkpoint(tmp_path / "net.safetensors").metadata
    assert (metadata["format"], metadata["version"], metadata["builder"]) == ("mvit_video", "1", "mvit")
    assert json.loads(metadata["arguments"])["depths"] == [1, 2, 2]
