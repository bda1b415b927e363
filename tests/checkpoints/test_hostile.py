"""Bytes that nobody trained: whatever they are, one line names the file, and no claimed size is believed."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

import mvit_video as mv
from mvit_video.checkpoints import infer_architecture, read_checkpoint, translate
from mvit_video.models import Patch, mvit
from tests.fixtures.places import SHARED

CASES = SHARED / "cases"


def safetensors(header: Any, data: bytes = b"", *, claimed: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + data


@cache
def written() -> dict[str, bytes]:
    """Small sound files of each kind."""
    torch.manual_seed(0)
    net = mvit(num_classes=2, num_frames=2, crop_size=8, depths=(1,), embed_dim=4, patch=Patch((1, 4, 4), (1, 4, 4)))
    state, metadata = net.state_dict(), {"format": "mvit_video"} | net.recipe.to_metadata()
    files = {"safetensors": save(state, metadata)}
    for name, content, is_zip in (
        ("zip", {"model": state, "epoch": 3}, True),
        ("legacy", state, False),
        ("run", {"pytorch-lightning_version": "2.6", "state_dict": state, "mvit_video": metadata}, True),
    ):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
        files[name] = buffer.getvalue()
    return files


def use(path: Path) -> None:
    """Does with a file what `create_model(checkpoint=...)` does, up to memory for the net."""
    try:
        infer_architecture(translate(read_checkpoint(path)))
    except mv.CheckpointError as error:
        text = str(error)
        assert str(path) in text
        assert text.isprintable()
        assert len(text) < 2000


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile") / "net.pth"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@given(st.sampled_from(["safetensors", "zip", "legacy", "run"]), st.data())
def test_damaged_files_end_in_one_line(file: Path, kind: str, data: st.DataObject) -> None:
    content = bytearray(written()[kind])
    # most damage where the names are, which is the end of an archive and the start of the others
    places = st.integers(0, min(len(content), 3000) - 1)
    for place, new in data.draw(st.lists(st.tuples(places, st.binary(min_size=1, max_size=4)), min_size=1, max_size=4)):
        start = len(content) - 1 - place if kind in ("zip", "run") and data.draw(st.booleans()) else place
        content[start : start + data.draw(st.integers(0, 4))] = new
    file.write_bytes(content)
    use(file)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.data())
def test_any_architecture_in_the_metadata_ends_in_one_line(file: Path, data: st.DataObject) -> None:
    content = written()["safetensors"]
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    arguments = json.loads(header["__metadata__"]["arguments"])
    for key in data.draw(st.lists(st.sampled_from([*sorted(arguments), "more"]), min_size=1, max_size=3)):
        arguments[key] = data.draw(_JSON)
    header["__metadata__"] |= {
        "arguments": json.dumps(arguments),
        "builder": data.draw(st.sampled_from(["mvit", "mvitv2", "pvt", "pvt_v2", "alternet", "system"])),
        "class_names": json.dumps(data.draw(_JSON)),
    }
    file.write_bytes(safetensors(header, content[8 + size :]))
    use(file)


@given(st.dictionaries(st.text(max_size=20), st.lists(st.integers(0, 3), max_size=6)))
def test_any_names_and_shapes_end_in_one_line(file: Path, shapes: dict[str, list[int]]) -> None:
    needed = ["patch_embed.proj.weight", "blocks.0.attn.proj.weight", "blocks.0.norm1.weight"]
    known = {key: [1, 2] for key in needed}
    for names in (shapes, known | shapes, {f"\x1b[31m{key}\n": shape for key, shape in (known | shapes).items()}):
        torch.save({key: torch.zeros(shape) for key, shape in names.items()}, file)
        use(file)


DEEP = 200_000


def _deep_metadata() -> bytes:
    content = written()["safetensors"]
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"]["arguments"] = "[" * DEEP + "]" * DEEP
    return safetensors(header, content[8 + size :])


def _archive(records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(f"net/{name}", content)
    return buffer.getvalue()


def _saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _contains_itself() -> bytes:
    content: dict[str, Any] = {}
    content |= dict.fromkeys(("model", "state_dict", "net", "module", "ema"), content)
    return _saved(content)


def _bytearray(num_bytes: int) -> bytes:
    return b"\x80\x02c__builtin__\nbytearray\nJ" + struct.pack("<i", num_bytes) + b"\x85R."


RECORDED: dict[str, tuple[Callable[[], bytes], str]] = {
    "no_tensors": (lambda: safetensors({"__metadata__": {"format": "pt"}}), "holds no tensors; it is empty"),
    "deep_header": (lambda: safetensors(b"{" + b'"a":{' * DEEP), "cut off or damaged"),
    "deep_metadata": (_deep_metadata, "its metadata describe no model that can be built"),
    "long_header": (lambda: safetensors({}, claimed=1 << 40), f"a header of {1 << 40} bytes; the limit is"),
    "deep_pickle": (lambda: b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".", "cut off or damaged"),
    "contains_itself": (_contains_itself, "holds no tensors; its entries are model, state_dict, net, module"),
    "bytearray": (lambda: _archive({"data.pkl": _bytearray(1 << 30), "version": b"3"}), "holds a bytearray"),
    "legacy_bytearray": (lambda: _bytearray(1 << 30), "holds a bytearray"),
    "bomb": (
        lambda: _archive({"data.pkl": b"\x80\x02}.", "data/0": bytes(64 << 20)}, zipfile.ZIP_DEFLATED),
        r"claims \d+ bytes, more than a file of \d+ bytes, compressed, can hold \d+",
    ),
    "expanded": (lambda: _saved({"a": torch.zeros(1).expand(1 << 31)}), f"tensors of {1 << 33} bytes; the limit is"),
    "meta": (lambda: _saved({"a": torch.zeros(1 << 31, device="meta")}), "a has no values; save a model that is not"),
    "escapes": (lambda: _saved({"\x1b[31ma\nb": torch.zeros(1)}), r"the first is \\x1b\[31ma\\nb$"),
}


@pytest.mark.parametrize("case", RECORDED)
def test_recorded_files_are_refused_in_one_line(case: str, file: Path) -> None:
    make, message = RECORDED[case]
    file.write_bytes(make())
    with pytest.raises(mv.CheckpointError, match=rf"net\.pth: .*{message}") as error:
        mv.create_model(checkpoint=file)
    assert str(error.value).isprintable()


def test_a_file_without_values_is_refused() -> None:
    if not CASES.is_dir():
        pytest.skip("the folder of shared cases is not here")
    with pytest.raises(mv.CheckpointError, match=r"no_tensors\.safetensors: not a model in a known layout .* is a$"):
        mv.create_model(checkpoint=CASES / "no_tensors.safetensors")


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.pth")
    with pytest.raises(mv.CheckpointError, match=r"net\.pth: not a regular file but a pipe or device"):
        mv.create_model(checkpoint=tmp_path / "net.pth")
    os.mkfifo(tmp_path / "run.json")  # by which the folder of a test is known
    with pytest.raises(mv.CheckpointError, match="is a directory without checkpoints"):
        mv.create_model(checkpoint=tmp_path)


def _claims_storage(num_floats: int) -> bytes:
    """A pickle of one tensor, whose storage of a single value it says to be larger."""
    buffer = io.BytesIO(_saved({"patch_embed.proj.weight": torch.zeros(1)}))
    with zipfile.ZipFile(buffer) as archive:
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    one, many = b"K\x01", b"\x8a\x08" + struct.pack("<q", num_floats)
    records["data.pkl"] = records["data.pkl"].replace(one, many)
    return _archive(records)


def test_claims_cost_no_memory(tmp_path: Path) -> None:
    """In a process of its own, whose peak nothing else has raised."""
    contents = {
        "claims_storage": _claims_storage(2 << 30),
        "legacy_claims_storage": written()["legacy"].replace(b"K\x04", b"J\xff\xff\xff\x7f"),
        "expanded": _saved({"patch_embed.proj.weight": torch.zeros(1).expand(3 << 30)}),
        **{name: RECORDED[name][0]() for name in ("bytearray", "legacy_bytearray", "bomb", "long_header", "meta")},
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    code = f"""
        import pathlib, resource
        import mvit_video as mv
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        mv.create_model
        before = peak()
        for file in sorted(pathlib.Path({str(tmp_path)!r}).iterdir()):
            try:
                mv.create_model(checkpoint=file)
            except mv.CheckpointError as error:
                print(file.name, peak() - before, error)
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300, check=True
    ).stdout.splitlines()
    assert [line.split()[0] for line in told] == sorted(contents)
    assert [line for line in told if int(line.split()[1]) > 200] == []  # MiB


def test_errors_cross_processes() -> None:
    error = mv.CheckpointError("a: b", "do c")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "a: b; do c"
