"""The verbs `search` and `knn`, over features made by hand and over videos of a tiny net."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from sklearn.metrics.pairwise import cosine_similarity

import mvit_video as mv
from mvit_video.cli import main
from mvit_video.features.extractor import Extractor, ExtractSettings
from mvit_video.features.store import load_features
from mvit_video.features.videos import Video
from mvit_video.features.writers import writer_for
from mvit_video.models import mvit
from mvit_video.runs import load_predictions
from tests.fixtures.features import StoreFeatures

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    def run(*words: object) -> dict[str, Any]:
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def stored(store_features: StoreFeatures) -> tuple[Path, np.ndarray]:
    vectors = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    return store_features(vectors, [*"aaabbccc"], [0, 0, 0, 1, 1, 0, 0, 0], class_names=["run", "sit"]), vectors


def test_a_moment_of_a_stored_video_finds_windows_of_others(stored: tuple[Path, np.ndarray], ask: Ask) -> None:
    folder, vectors = stored
    (query,) = ask("search", folder, "--query", "a:0.7", "-k", 9)["queries"]
    assert (query["path"], query["start_seconds"], query["end_seconds"], query["label"]) == ("a", 0.5, 1.0, 0)
    cosines = cosine_similarity(vectors.astype(np.float64))[1]
    order = sorted(range(3, 8), key=lambda row: -cosines[row])
    assert [hit["path"] for hit in query["hits"]] == ["aaabbccc"[row] for row in order]
    assert [hit["cosine"] for hit in query["hits"]] == pytest.approx(cosines[order].tolist())
    assert [hit["start_seconds"] for hit in query["hits"]] == [[0, 0.5, 1, 0, 0.5, 0, 0.5, 1][row] for row in order]
    own = ask("search", folder, "--query", "a:0.7", "-k", 1, "--same-video")["queries"][0]["hits"][0]
    assert (own["path"], own["start_seconds"], own["cosine"]) == ("a", 0.5, pytest.approx(1))


def test_a_video_is_the_mean_of_its_windows(stored: tuple[Path, np.ndarray], ask: Ask) -> None:
    folder, vectors = stored
    (query,) = ask("search", folder, "--query", "b", "--windows", "mean")["queries"]
    means = np.stack([vectors[rows].mean(axis=0) for rows in (slice(3), slice(3, 5), slice(5, 8))])
    cosines = cosine_similarity(means)[1]
    assert {hit["path"]: hit["cosine"] for hit in query["hits"]} == pytest.approx(
        {"a": cosines[0], "c": cosines[2]}, rel=1e-5
    )
    assert (query["start_seconds"], query["end_seconds"]) == (0, 1)


def test_every_row_of_other_features_is_a_query(
    stored: tuple[Path, np.ndarray], store_features: StoreFeatures, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, vectors = stored
    other = store_features(vectors[[0, 3, 7]], [*"axy"], [0, 1, 1], name="other", class_names=["run", "sit"])
    found = ask("search", folder, "--query", other, "-k", 1)
    assert [query["path"] for query in found["queries"]] == ["a", "x", "y"]
    # `a` is in both, so it may not find itself
    assert [query["hits"][0]["path"] for query in found["queries"]][1:] == ["b", "c"]
    assert found["queries"][0]["hits"][0]["path"] != "a"
    assert found["num_labelled_queries"] == 3
    assert main(["search", str(folder), "--query", str(other), "-k", "1"]) == 0
    assert "the nearest has the query's label: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("d", "--query d: neither a video of"),
        ("a:1.7", "--query a:1.7: its windows are from 0 to 1.5 seconds"),
    ],
)
def test_a_query_that_is_not_there_is_told(
    stored: tuple[Path, np.ndarray], query: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(stored[0]), "--query", query]) == 2
    assert message in capsys.readouterr().err


def test_knn_classifies_by_votes_of_other_videos(
    store_features: StoreFeatures, ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 6), 8, axis=0)
    train = store_features(
        (centres + 0.1 * rng.normal(size=(24, 6))).astype(np.float32), [f"{i}" for i in range(24)],
        np.repeat([0, 1, 2], 8).tolist(), name="train",
    )  # fmt: skip
    test = store_features(np.eye(3, 6, dtype=np.float16), [*"xyz"], [0, 1, 0], name="test")
    assert main(["knn", str(train), "--test", str(test), "-k", "5", "--out", str(tmp_path / "knn")]) == 0
    capsys.readouterr()
    assert load_predictions(tmp_path / "knn").prediction.tolist() == [0, 1, 2]
    assert ask("knn", train, "--test", test)["metrics"]["top1"] == pytest.approx(200 / 3)
    alone = ask("knn", train, "-k", 3)
    assert alone["protocol"] == "each video among all others"
    assert alone["metrics"]["top1"] == 100


def test_a_videos_own_windows_have_no_vote(store_features: StoreFeatures, ask: Ask) -> None:
    """Each video has a direction of its own, and the next like it has the other label."""
    angles = np.repeat(np.arange(8) * 0.1, 3)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    folder = store_features(vectors, np.repeat(np.arange(8), 3).astype(str), np.repeat([0, 1] * 4, 3).tolist())
    assert ask("knn", folder, "-k", 1, "--windows", "keep")["metrics"]["top1"] == 0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("net") / "net.safetensors"
    mv.save_checkpoint(mvit(num_classes=4, num_frames=4, crop_size=32, depths=(1, 1), embed_dim=16, num_heads=1), file)
    return file


@pytest.fixture
def extracted(digits: Path, checkpoint: Path, tmp_path: Path) -> Path:
    """Each crop of each window of the eight videos for validation, in a folder of a name that parts may have too."""
    extractor = Extractor(ExtractSettings(str(checkpoint), window="16", num_crops=3, keep_crops=True))
    folder, paths = tmp_path / "features", sorted(digits.glob("val/*/*.mp4"))
    names = [str(path.relative_to(digits)) for path in paths]
    videos = [extractor.extract(Video(name, path)) for name, path in zip(names, paths, strict=True)]
    writer_for("parquet", folder / "features", extractor.record).write(videos)
    (folder / "extract.json").write_text(json.dumps(extractor.record))
    sizes = [path.stat().st_size for path in paths]
    parquet.write_table(pa.table({"path": names, "size": sizes}), folder / "manifest.parquet")
    return folder


def test_any_video_is_looked_at_as_those_that_are_stored(
    digits: Path, extracted: Path, tmp_path: Path, ask: Ask
) -> None:
    table = load_features(extracted)
    video = table.files[2].as_py()
    # a video of the table, by a path from another folder
    (query,) = ask("search", extracted, "--query", digits / video, "-k", 100)["queries"]
    assert len(query["hits"]) == 7 * 2 * 3
    assert video not in {hit["path"] for hit in query["hits"]}
    # the same video under another name is read, and has the very same features
    copied = tmp_path / "copied.mp4"
    copied.write_bytes((digits / video).read_bytes())
    (copy,) = ask("search", extracted, "--query", copied, "-k", 100)["queries"]
    assert len(copy["hits"]) == 8 * 2 * 3
    others = [hit for hit in copy["hits"] if hit["path"] != video]
    assert [hit["cosine"] for hit in others] == pytest.approx([hit["cosine"] for hit in query["hits"]], abs=1e-6)
    # another video of the same name is not taken for it
    other = tmp_path / video
    other.parent.mkdir(parents=True)
    other.write_bytes((digits / table.files[0].as_py()).read_bytes())
    (query,) = ask("search", extracted, "--query", f"{other}:0.3", "-k", 100, "--windows", "mean")["queries"]
    assert {hit["path"] for hit in query["hits"]} == set(table.files.to_pylist())


def test_a_model_that_has_changed_since_is_refused(
    digits: Path, extracted: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = extracted / "extract.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"key": "another"}))
    assert main(["search", str(extracted), "--query", str(next(digits.glob("train/*/*.mp4")))]) == 2
    assert f"{checkpoint} did not make {extracted}: weights or preprocessing have" in capsys.readouterr().err
