import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mvit_video.features.store import load_features
from mvit_video.types import ConfigError, MVitVideoError
from tests.fixtures.features import StoreFeatures


def random_vectors(num_rows: int, num_channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num_rows, num_channels)).astype(np.float16)


@pytest.mark.parametrize("num_parts", [1, 3])
def test_rows_and_vectors_are_those_that_were_stored(store_features: StoreFeatures, num_parts: int) -> None:
    vectors = random_vectors(7)
    folder = store_features(
        vectors, [*"aaabbcc"], [0, 0, 0, None, None, 1, 1], class_names=["run", "sit"], num_parts=num_parts
    )
    table = load_features(folder)
    np.testing.assert_array_equal(table.vectors, vectors)
    assert table.vectors.dtype == np.float16
    assert table.files.to_pylist() == ["a", "b", "c"]
    assert table.file.tolist() == table.video.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert table.label.tolist() == [0, 0, 0, -1, -1, 1, 1]
    assert table.rows["window"].to_pylist() == [0, 1, 2, 0, 1, 0, 1]
    assert table.class_names == ("run", "sit")
    assert table.metadata["layer"] == "pooled"


def test_vectors_are_mapped_and_made_anew_only_where_the_parts_changed(store_features: StoreFeatures) -> None:
    folder = store_features(random_vectors(4), [*"aabb"])
    first = load_features(folder)
    assert isinstance(first.vectors, np.memmap)
    (file,) = (folder / "mapped").iterdir()
    made = file.stat().st_mtime_ns
    load_features(folder)
    assert file.stat().st_mtime_ns == made
    part = folder / "features" / "part-00000.parquet"
    parquet.write_table(parquet.read_table(part).slice(1), part)
    changed = load_features(folder)
    np.testing.assert_array_equal(changed.vectors, first.vectors[1:])
    assert [other.name for other in (folder / "mapped").iterdir()] != [file.name]
    assert len(list((folder / "mapped").iterdir())) == 1


def test_a_damaged_copy_is_made_anew(store_features: StoreFeatures) -> None:
    folder = store_features(random_vectors(4), [*"aabb"])
    load_features(folder)
    (file,) = (folder / "mapped").iterdir()
    os.truncate(file, 100)
    np.testing.assert_array_equal(load_features(folder).vectors, random_vectors(4))


def test_a_copy_that_a_kill_left_is_removed_and_foreign_files_stay(store_features: StoreFeatures) -> None:
    folder = store_features(random_vectors(4), [*"aabb"])
    (folder / "mapped").mkdir()
    left = folder / "mapped" / ".vectors-0.npy.1.unfinished"
    others = [folder / "mapped" / name for name in ("mine.npy", ".hidden")]
    for file in (left, *others):
        file.write_bytes(b"half")
        os.utime(file, (0, 0))
    load_features(folder)
    assert not left.exists()
    assert all(file.exists() for file in others)


def test_without_a_place_for_the_copy_vectors_are_in_memory(store_features: StoreFeatures) -> None:
    folder = store_features(random_vectors(4), [*"aabb"])
    (folder / "mapped").write_text("in the way")
    table = load_features(folder)
    assert not isinstance(table.vectors, np.memmap)
    np.testing.assert_array_equal(table.vectors, random_vectors(4))


def test_one_part_file_is_read_like_a_folder(store_features: StoreFeatures) -> None:
    folder = store_features(random_vectors(4), [*"aabb"], class_names=["run"], num_parts=2)
    table = load_features(folder / "features" / "part-00001.parquet")
    np.testing.assert_array_equal(table.vectors, random_vectors(4)[2:])
    assert table.class_names == ("run",)


def test_windows_that_count_anew_are_another_video_of_the_same_file(store_features: StoreFeatures) -> None:
    windows, crops = [0, 0, 1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 0, 1, 0, 1]
    table = load_features(store_features(random_vectors(8), [*"aaaaaabb"], window=windows, crop=crops))
    assert table.video.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert table.file.tolist() == [0, 0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("rows_per_batch", [1, 3, 4096])
def test_averages_are_the_means_of_the_rows_of_each_video(
    store_features: StoreFeatures, rows_per_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvit_video.features.store._ROWS_PER_BATCH", rows_per_batch)
    vectors = random_vectors(7)
    table = load_features(store_features(vectors, [*"aaabccc"], [0, 0, 0, 1, None, None, None])).averaged()
    means = [vectors[rows].astype(np.float64).mean(axis=0) for rows in ([0, 1, 2], [3], [4, 5, 6])]
    np.testing.assert_allclose(table.vectors, means, rtol=1e-6, atol=1e-7)
    assert isinstance(table.vectors, np.memmap)
    assert table.rows["path"].to_pylist() == ["a", "b", "c"]
    assert table.label.tolist() == [0, 1, -1]
    assert table.rows["start_seconds"].to_pylist() == [0, 0, 0]
    assert table.rows["end_seconds"].to_pylist() == [1.5, 0.5, 1.5]
    assert table.rows["center_seconds"].to_pylist() == [0.75, 0.25, 0.75]
    assert table.rows["end_frame"].to_pylist() == [45, 15, 45]
    assert table.video.tolist() == table.file.tolist() == [0, 1, 2]


def test_what_holds_no_features_is_refused(store_features: StoreFeatures, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: there are no features in Parquet here; give the --out folder"):
        load_features(tmp_path / "nowhere")
    parquet.write_table(pa.table({"path": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(MVitVideoError, match=r"other\.parquet: these are no features .* label is missing"):
        load_features(tmp_path / "other.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(MVitVideoError, match=r"torn\.parquet: cannot be read as Parquet"):
        load_features(tmp_path / "torn.parquet")
    with pytest.raises(MVitVideoError, match=r"empty: holds no features, not a single row"):
        load_features(store_features(random_vectors(1)[:0], [], name="empty", window=[]))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"a"', ""])
def test_a_damaged_record_is_refused_by_name(store_features: StoreFeatures, text: str) -> None:
    folder = store_features(np.zeros((2, 3), np.float32), ["a", "b"])
    (folder / "extract.json").write_text(text)
    with pytest.raises(MVitVideoError, match=r"^.*/extract\.json: "):
        load_features(folder)


def test_text_that_is_no_utf8_is_refused_by_name(store_features: StoreFeatures) -> None:
    folder = store_features(np.zeros((2, 3), np.float32), ["a", "b"])
    part = next((folder / "features").glob("*.parquet"))
    table = parquet.read_table(part)
    parquet.write_table(table.replace_schema_metadata({**table.schema.metadata, b"\xff": b"\xff"}), part)
    with pytest.raises(MVitVideoError, match=r"^.*part-00000\.parquet: its metadata have .* which is not UTF-8"):
        load_features(folder)


def test_parts_of_two_extractions_are_refused(store_features: StoreFeatures) -> None:
    folder = store_features(random_vectors(2), [*"aa"])
    other = store_features(random_vectors(2), [*"bb"], name="other", metadata={"key": "changed"})
    os.rename(other / "features" / "part-00000.parquet", folder / "features" / "part-00001.parquet")
    with pytest.raises(MVitVideoError, match=r"part-00001\.parquet: comes from another extraction than .*part-00000"):
        load_features(folder)


def test_a_small_file_that_claims_much_is_refused(store_features: StoreFeatures) -> None:
    folder = store_features(np.zeros((1000, 20_000), np.float32), ["a"] * 1000)
    part = next((folder / "features").glob("*.parquet"))
    parquet.write_table(parquet.read_table(part), part, compression="zstd", use_dictionary=False)
    with pytest.raises(MVitVideoError, match=r"part-00000\.parquet: claims .* values and .* in a file of .* bytes"):
        load_features(folder)
