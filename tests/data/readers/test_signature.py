"""What a file claims is held against what it is before a library sees it."""

import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mvit_video.data.readers import Backend, open_video
from mvit_video.data.readers.source import Source, check_claims, container_by_signature
from mvit_video.types import VideoDecodeError
from tests.fixtures.data import Barcodes, OddVideos


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def with_claim(data: bytes, num_samples: int) -> bytes:
    """Samples of one byte each, and as many of them as wished."""
    changed = bytearray(data)
    struct.pack_into(">II", changed, data.index(b"stsz") + 8, 1, num_samples)
    return bytes(changed)


def split_header(data: bytes) -> tuple[bytes, bytes]:
    """What precedes the box `moov`, the last one of the file, and its content."""
    start = data.index(b"moov") - 4
    assert struct.unpack_from(">I", data, start)[0] == len(data) - start
    return data[:start], data[start + 8 :]


def compressed(data: bytes) -> bytes:
    """The same file with the header that old QuickTime programs wrote."""
    before, header = split_header(data)
    whole = box(b"moov", header)
    packed = box(b"cmvd", struct.pack(">I", len(whole)) + zlib.compress(whole))
    return before + box(b"moov", box(b"cmov", box(b"dcom", b"zlib") + packed))


def nested(data: bytes) -> bytes:
    """The claim in a box beside those of the track."""
    before, header = split_header(data)
    claim = box(b"stsz", struct.pack(">III", 0, 1, 8_000_000))
    return before + box(b"moov", header + box(b"trak", box(b"meta", bytes(4) + claim)))


@pytest.mark.parametrize("is_in_memory", [False, True])
@pytest.mark.parametrize("change", [lambda data: data, compressed], ids=["plain", "compressed"])
def test_a_header_that_counts_more_samples_than_bytes(
    change: Callable[[bytes], bytes], is_in_memory: bool, odd_videos: OddVideos, tmp_path: Path
) -> None:
    data = change(with_claim(odd_videos("closed_gop").read_bytes(), 8_000_000))
    path = tmp_path / "claims.mp4"
    path.write_bytes(data)
    began = time.thread_time()
    with pytest.raises(VideoDecodeError, match=rf"counts 8000000 samples, it has {len(data)} bytes"):
        open_video(data if is_in_memory else path)
    assert time.thread_time() - began < 0.5


def test_claims_of_fragments_and_of_stray_boxes(odd_videos: OddVideos) -> None:
    fragments = bytearray(odd_videos("fragmented").read_bytes())
    struct.pack_into(">I", fragments, fragments.index(b"trun") + 8, 8_000_000)
    for data in (bytes(fragments), nested(odd_videos("closed_gop").read_bytes())):
        with pytest.raises(VideoDecodeError, match=r"counts 80000\d\d samples"):
            check_claims(Source("x.mp4", data), len(data))


def test_an_index_that_takes_too_much_memory(odd_videos: OddVideos, tmp_path: Path) -> None:
    """A sparse file has any number of bytes, so there is a limit too."""
    path = tmp_path / "sparse.mp4"
    path.write_bytes(with_claim(odd_videos("closed_gop").read_bytes(), 80_000_000))
    with path.open("r+b") as file:
        file.truncate(10**8)
    with pytest.raises(VideoDecodeError, match="counts 80000000 samples, more than 8388608"):
        open_video(path)


def with_edits(data: bytes, num_edits: int) -> bytes:
    """Each edit shows all samples again."""
    before, header = split_header(data)
    start = header.index(b"edts") - 4
    stop = start + struct.unpack_from(">I", header, start)[0]
    edits = box(b"elst", struct.pack(">II", 0, num_edits) + struct.pack(">IiI", 1600, 0, 2**16) * num_edits)
    changed = bytearray(header[:start] + box(b"edts", edits) + header[stop:])
    track = header.index(b"trak") - 4
    grown = len(changed) - len(header) + struct.unpack_from(">I", changed, track)[0]
    struct.pack_into(">I", changed, track, grown)
    return before + box(b"moov", bytes(changed))


def test_edits_that_repeat_all_samples(odd_videos: OddVideos) -> None:
    """FFmpeg writes out an index entry for each sample of each edit: 1.4 GB for 20,000 edits of 2,000 samples."""
    data = odd_videos("edit_list").read_bytes()
    few = with_edits(data, 3)
    check_claims(Source("x.mp4", few), len(few))
    many = with_edits(data, 200_000)
    with pytest.raises(VideoDecodeError, match="samples, more than 8388608"):
        check_claims(Source("x.mp4", many), len(many))


@pytest.mark.parametrize("kind", [b"iinf", b"iloc"])
def test_items_of_a_still_image_that_cannot_be_there(kind: bytes, odd_videos: OddVideos) -> None:
    counts = {b"iinf": bytes([1, 0, 0, 0]), b"iloc": bytes([2, 0, 0, 0, 0x44, 0])}[kind] + struct.pack(">I", 10**8)
    handler = box(b"hdlr", bytes(8) + b"pict" + bytes(13))
    data = odd_videos("closed_gop").read_bytes() + box(b"meta", bytes(4) + handler + box(kind, counts + bytes(64)))
    with pytest.raises(VideoDecodeError, match=r"counts 1000000\d\d samples"):
        check_claims(Source("x.mp4", data), len(data))


def test_honest_files_pass(odd_name: str, odd_videos: OddVideos) -> None:
    path = odd_videos(odd_name)
    check_claims(Source(str(path)), path.stat().st_size)


def test_an_honest_compressed_header(odd_videos: OddVideos, barcodes: Barcodes) -> None:
    with open_video(compressed(odd_videos("closed_gop").read_bytes())) as reader:
        assert barcodes(reader.get_frames([0, 47])) == [0, 47]


@pytest.mark.parametrize("backend", ["decord", "torchcodec"])
def test_a_playlist_in_an_mp4_reaches_no_other_library(
    backend: Backend,
    odd_videos: OddVideos,
    barcodes: Barcodes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An unknown box for one demuxer, for another a list of local files to open."""
    if backend == "decord":
        pytest.importorskip("decord")
    monkeypatch.setattr("mvit_video.data.readers.reader.require_torchcodec", lambda: None)
    secret = odd_videos("vp8")
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n".encode()
    path = tmp_path / "innocent.mp4"
    with path.open("wb") as file:
        file.write(text)
        file.seek(struct.unpack(">I", text[:4])[0])
        file.write(odd_videos("fragmented").read_bytes())
    with open_video(path, backend) as reader:
        assert reader.backend_reason == f"not {backend}: its first bytes are not those of its container, mov"
        assert barcodes(reader.get_frames([0, 47])) == [0, 47]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\0\0\0\x20ftypisom", "mov"),
        (b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\x23", "matroska"),
        (b"RIFF\x10\0\0\0AVI ", "avi"),
        (b"#EXTM3U\n#EXT", None),
        (b"ffconcat ver", None),
        (b"", None),
    ],
)
def test_signatures(head: bytes, expected: str | None) -> None:
    assert container_by_signature(head) == expected
