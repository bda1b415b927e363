"""Annotations that others wrote: whatever they hold, a table or one line that names the file."""

import io
import json
import os
import random
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from mvit_video.data import VideoTable, load_annotations
from mvit_video.jobs.foreign import parsing
from mvit_video.types import AnnotationError
from tests.fixtures.places import SHARED

Write = Callable[..., Path]

CASES = SHARED / "cases"


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    """A test that waits for a pipe ends after a minute instead of never."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def load(data: bytes, name: str, **beside: bytes) -> VideoTable | None:
    """The table of a file; None where it is refused in one line that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        for suffix, content in beside.items():
            (Path(folder) / f"classes.{suffix}").write_bytes(content)
        try:
            table = load_annotations(path)
        except AnnotationError as error:
            text = str(error)
            assert text.startswith(folder)
            assert len(text.splitlines()) == 1
            text.encode()
            return None
        json.dumps([table.paths.to_pylist(), table.labels.tolist(), table.class_names]).encode()
        assert all(path for path in table.paths.to_pylist())
        return table


WORDS = [
    "path", "label", "labels", "start", "end", "id", "actions", "youtube_id", "time_start", "time_end", "a.mp4",
    "b.mp4", "c001 0 1", "run", "0", "1.0", "nan", "[0, 2]", "-1", "1e400", "9" * 5000, "x" * 140_000, "\ud800",
    '"', "'", ",", "\t", " ", "\n", ";", "[", "{", "}", "]", ":", "#", "\0", "\ufeff", "é", "=1", "\r",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(WORDS), max_size=14).map("".join)
NAMES = st.sampled_from(["list.txt", "list.csv", "list.json", "list.jsonl", "trainlist01.txt", "list.parquet"])


@given(TEXT, NAMES)
@example("path,label\n" + "x" * 140_000 + ",0\n", "list.csv")
@example("x" * 140_000 + ",0\n", "list.csv")
@example('path,label\n"' + "x" * 140_000 + '",0\n', "list.txt")
@example("path label\n", "list.txt")
@example("path,start,label\na.mp4,1e999,0\n", "list.csv")
def test_any_text_is_a_table_or_refused(text: str, name: str) -> None:
    load(text.encode("utf-8", "surrogatepass"), name)


@given(st.binary(max_size=200), NAMES)
def test_any_bytes_are_a_table_or_refused(data: bytes, name: str) -> None:
    load(data, name)


@settings(max_examples=30)
@given(TEXT, st.sampled_from(["txt", "json"]))
@example("[" * 100_000, "json")
@example('{"run": ' + "9" * 5000 + "}", "json")
@example('{"a": "b", "c": 1}', "json")
def test_any_text_beside_names_the_classes_or_is_refused(text: str, suffix: str) -> None:
    load(b"a.mp4 0\n", "list.txt", **{suffix: text.encode("utf-8", "surrogatepass")})


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=3)
    | st.just("\ud800.mp4"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=6,
)
KEYS = st.sampled_from(["path", "label", "labels", "label_spans", "start", "end", "id", "template", "x"])


@given(st.lists(st.dictionaries(KEYS, VALUE | st.just("a.mp4"), max_size=4), min_size=1, max_size=3), st.booleans())
@example([{"path": "\ud800.mp4", "label": 0}], False)
@example([{"path": "a.mp4", "label": "\udc00"}], False)
@example([{"path": "a.mp4", "label": ["\udc00"]}], True)
@example([{"path": "a.mp4", "label": 0, "start": 2**70}], True)
def test_any_json_is_a_table_or_refused(records: list[dict], is_array: bool) -> None:
    text = json.dumps(records) if is_array else "\n".join(map(json.dumps, records))
    load(text.encode(), "list.json")
    load(text.encode(), "list.jsonl")


@pytest.mark.parametrize("depth", [500, 900, 1000, 3000, 200_000])
def test_deep_json_is_refused(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for text in (
        f'{{"path": "a.mp4", "label": {deep}}}',
        f'{{"path": {deep}, "label": 0}}',
        deep,
        f'[{{"id": {deep}}}]',
    ):
        for name in ("list.json", "list.jsonl"):
            assert load(text.encode(), name) is None


def parquet_file(metadata: dict[bytes, bytes] | None = None, **columns: object) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table(columns, metadata=metadata), file)
    return file.getvalue()


SOUND = parquet_file(
    {b"class_names": b'["a", "b"]', b"root": b"/x"}, path=["a.mp4", "b.mp4"] * 20, label=[0, 1] * 20,
    status=["ok", "failed"] * 20, start=[0.0, None] * 20,
)  # fmt: skip


@given(st.integers(0, 2**32), st.integers(1, 8))
def test_damaged_parquet_is_a_table_or_refused(seed: int, num_flips: int) -> None:
    data, rng = bytearray(SOUND), random.Random(seed)
    for _ in range(num_flips):
        data[rng.randrange(4, len(data) - 8)] = rng.randrange(256)
    load(bytes(data), "list.parquet")


def test_a_damaged_footer_does_not_end_the_process(tmp_path: Path) -> None:
    """Arrow throws what Python cannot catch where it is asked for the claims of such a column."""
    data = bytearray(parquet_file(path=["a.mp4", "b.mp4"], labels=[[0, 1], [2]]))
    for place in range(len(data) - int.from_bytes(data[-8:-4], "little") - 8, len(data) - 8):
        changed = data[:]
        changed[place] ^= 0x10
        load(bytes(changed), "list.parquet")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (parquet_file(path=["a"], label=[0], status=[1]), 'column status has type int64, not strings such as "ok"'),
        (
            parquet_file({b"root": b"\xff"}, path=["a"], label=[0]),
            r"its metadata have b'root': b'\\xff', which is not UTF-8",
        ),
        (parquet_file({b"\xff": b"x"}, path=["a"], label=[0]), r"its metadata have b'\\xff'"),
        (
            parquet_file(path=pa.array([b"\xff.mp4"]).view(pa.string()), label=[0]),
            r"column path has b'\\xff\.mp4', which is not UTF-8",
        ),
        (
            parquet_file(path=["a"], label=pa.array([b"\xffx"]).view(pa.string())),
            r"column label has b'\\xffx', which is not UTF-8",
        ),
        (parquet_file(path=[b"a"], label=[0]), "column path has type .*binary, not strings"),
        (parquet_file({b"class_names": b"[" * 9000}, path=["a"], label=[0]), "class_names is not a list of names"),
    ],
)
def test_parquet_that_is_wrong_names_the_value(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(AnnotationError, match=rf"a\.parquet: {reason}"):
        load_annotations(tmp_path / "a.parquet")


def repeated(text: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))


@pytest.mark.parametrize(
    "columns",
    [
        {"path": repeated("x" * 900_000, 5000)},
        {
            "path": ["a"],
            "labels": pa.ListArray.from_arrays(pa.array([0, 9000], pa.int32()), repeated("x" * 300_000, 9000)),
        },
        {"path": pa.nulls(6_000_000, pa.string())},
    ],
    ids=["one long path in many rows", "one long label many times", "nothing but many rows"],
)
def test_a_small_file_may_not_claim_much_memory(columns: dict[str, pa.Array | list], tmp_path: Path) -> None:
    """Decoded, the texts are gigabytes."""
    table = pa.table({"label": pa.nulls(len(next(iter(columns.values())))), **columns})
    parquet.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 2**20
    before = pa.total_allocated_bytes()
    with pytest.raises(AnnotationError, match=r"a\.parquet: (claims [\d,]+ values and|column \w+ has too much text)"):
        load_annotations(tmp_path / "a.parquet")
    assert pa.total_allocated_bytes() - before < 2**27


@pytest.mark.parametrize("name", ["list.txt", "list.csv", "list.json", "list.tar", "list.parquet", "videos/a.tar"])
def test_a_pipe_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(AnnotationError, match=rf"{name}: is a pipe, a socket or a device, not a file"):
        load_annotations((tmp_path / name).parent if name.endswith("a.tar") else tmp_path / name)


def test_a_pipe_beside_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "index.parquet")
    (tmp_path / "a.tar").touch()
    with pytest.raises(AnnotationError, match=r"index\.parquet: is a pipe"):
        load_annotations(tmp_path / "a.tar")
    os.mkfifo(tmp_path / "names.txt")
    with pytest.raises(AnnotationError, match=r"names\.txt: is a pipe"):
        load_annotations(tmp_path / "a.tar", class_names=tmp_path / "names.txt")


def test_errors_of_parsers_name_the_file() -> None:
    with pytest.raises(AnnotationError, match=r"^x\.csv: cannot be read \(first\)$") as caught, parsing("x.csv"):
        raise ValueError("first\nsecond")
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(AnnotationError, match=r"^y: its own$"), parsing("x.csv"):
        raise AnnotationError("y", 0, "its own")
    with pytest.raises(AssertionError), parsing("x.csv"):
        raise AssertionError


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the sample inputs of ../shared/cases")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("integer_status.parquet", "column status has type int64"),
        ("path_not_utf8.parquet", r"column path has b'\\xff\.mp4', which is not UTF-8"),
        ("metadata_not_utf8.parquet", r"its metadata have b'\\xff\\xfe': b'\\xff', which is not UTF-8"),
        ("surrogate.jsonl", r"\"path\" must be a string, got '\\ud800\.mp4'"),
    ],
)
def test_recorded_cases(name: str, reason: str) -> None:
    with pytest.raises(AnnotationError, match=rf"{name}:(1:)? {reason}"):
        load_annotations(CASES / name)
