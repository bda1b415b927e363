import gzip
import io
import struct
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data import load_annotations
from mvit_video.data.shards import TarArchive
from mvit_video.types import AnnotationError
from tests.fixtures.data import WriteTar

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def whole() -> bytes:
    """A tar with every kind of header that we follow."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in [("a.cls", b"1"), ("a.mp4", b"A" * 700), ("é.json", b'{"label": 2}'), ("é.mp4", b"B" * 1024)]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def test_a_tar_that_is_cut_off_is_never_taken_for_a_whole_one(whole: bytes, tmp_path: Path) -> None:
    end = len(whole.rstrip(b"\0"))  # the last video ends with its block
    assert end % 512 == 0
    for size in [*range(0, end + 512, 173), *range(0, end + 512, 512)]:
        path = tmp_path / f"{size}.tar"
        path.write_bytes(whole[:size])
        with pytest.raises(AnnotationError, match=rf"/{size}\.tar: is truncated.* at byte {size}\b"):
            load_annotations(path)
    path.write_bytes(whole[: end + 512])
    assert load_annotations(path).labels.tolist() == [1, 2]


@given(flips=st.lists(st.tuples(st.integers(0, 6 * 1024), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_never_lead_outside_the_tar(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(whole)
    for position, value in flips:
        data[position % len(data)] = value
    for start in range(0, len(data), 512):  # else every flip in a header is found out by its sum
        block = data[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    path = tmp_path_factory.mktemp("damaged") / "0.tar"
    path.write_bytes(data)
    try:
        table = load_annotations(path)
    except AnnotationError:
        return
    archive = table.archive
    assert isinstance(archive, TarArchive)
    assert (archive.offsets >= 0).all()
    assert (archive.sizes >= 0).all()
    assert (archive.offsets + archive.sizes <= len(data)).all()
    assert [len(archive.read(row)) for row in range(len(table))] == archive.sizes.tolist()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def extended(**records: str) -> bytes:
    """An extended header."""
    body = b""
    for key, value in records.items():
        rest = f" {key}={value}\n"
        body += f"{len(rest) + 2}{rest}".encode()
    assert len(body) < 100
    return header("x", len(body), tarfile.XHDTYPE) + body.ljust(512, b"\0")


HOSTILE = {
    "negative size": (header("x.mp4", 0)[:124] + b"\xff" * 12 + header("x.mp4", 0)[136:], "damaged|truncated"),
    "huge size": (header("x.mp4", 2**60), r"truncated: 'x\.mp4' at byte 0 has 1152921504606846976 bytes"),
    "negative size in an extended header": (extended(size="-99") + header("x.mp4", 9), r"has -99 bytes"),
    "huge extended header": (header("p", 2**40, tarfile.XHDTYPE), r"header of more than 65536 bytes"),
    "huge long name": (header("p", 2**50, tarfile.GNUTYPE_LONGNAME), r"header of more than 65536 bytes"),
    "many digits": (
        header("p", 60_000, tarfile.XHDTYPE) + b"1" * 60_000, r"a header with a number of more than 128 digits"
    ),
    "many headers in a chain": (extended(x="y") * 2000, r"header of more than 65536 bytes"),
    "name in Latin-1": (
        tarfile.TarInfo("\xe9.mp4").tobuf(tarfile.GNU_FORMAT, "latin-1"),
        r"the name b'\\xe9\.mp4' at byte 0 is not UTF-8",
    ),
    "sparse map without end": (
        extended(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x.mp4"})
        + header("x.mp4", 512) + b"99999999\n".ljust(512, b"\0"),
        r"damaged at byte 0, or not a tar \(an invalid header\)",
    ),
    "huge label": (header("x.cls", 2**25) + bytes(2**25), r"'x\.cls' at byte 0 has 33554432 bytes, too large for a"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_are_refused(tmp_path: Path, case: str) -> None:
    data, message = HOSTILE[case]
    head = data[:512]
    total = sum(head[:148]) + sum(head[156:]) + 8 * 32
    path = tmp_path / "hostile.tar"
    path.write_bytes(head[:148] + b"%06o\0 " % total + head[156:] + data[512:] + bytes(1024))
    with pytest.raises(AnnotationError, match=rf"hostile\.tar: .*({message})"):
        load_annotations(path)


def test_names_lead_nowhere(write_tar: WriteTar, tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret")
    members = {"../secret.mp4": b"up", str(secret): b"absolute", "x\ny.mp4": b"line"}
    table = load_annotations(write_tar(tmp_path / "shards" / "0.tar", members))
    assert [table.source(row) for row in range(3)] == [b"up", b"absolute", b"line"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.mp4", "shards"]
    assert secret.read_bytes() == b"secret"


def test_compressed_and_other_files_are_named(write_tar: WriteTar, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", {"x.mp4": b"x"})
    (tmp_path / "1.tar").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(AnnotationError, match=r"1\.tar: is compressed with gzip; decompress it"):
        load_annotations(tmp_path / "1.tar")
    for content in (b"path label\n" * 200, struct.pack("<512d", *range(512)), b""):
        (tmp_path / "1.tar").write_bytes(content)
        with pytest.raises(AnnotationError, match=r"1\.tar: is (damaged at byte 0, or not a tar|truncated at byte 0)"):
            load_annotations(tmp_path / "1.tar")
