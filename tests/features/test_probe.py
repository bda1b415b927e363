import json
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mvit_video.cli import main
from mvit_video.features.probe import ProbeSettings, _folds, cross_validate, fit_probe
from mvit_video.features.store import load_features
from mvit_video.runs import load_predictions
from mvit_video.types import ConfigError
from tests.fixtures.features import StoreFeatures


def clusters(
    num_videos: int, num_windows: int, seed: int, spread: float = 1.0
) -> tuple[np.ndarray, list[str], list[int]]:
    """Windows of videos of three classes, around a centre of the class and one of the video."""
    centres = np.random.default_rng(0).normal(size=(3, 5))
    rng = np.random.default_rng(seed)
    label = np.arange(num_videos) % 3
    videos = centres[label] + spread * rng.normal(size=(num_videos, 5))
    vectors = videos[:, None] + 0.3 * rng.normal(size=(num_videos, num_windows, 5))
    paths = [f"{seed}/{video}.mp4" for video in range(num_videos) for _ in range(num_windows)]
    return vectors.reshape(-1, 5).astype(np.float32), paths, np.repeat(label, num_windows).tolist()


def test_a_probe_is_the_pipeline_of_scikit_learn_by_hand(store_features: StoreFeatures) -> None:
    train_vectors, paths, label = clusters(30, 2, seed=1)
    test_vectors, *of_test = clusters(12, 2, seed=2)
    train = load_features(store_features(train_vectors, paths, label, name="train"))
    test = load_features(store_features(test_vectors, *of_test, name="test"))
    probe = fit_probe(train, 4, ProbeSettings())
    accuracies = {}
    for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0):
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
        shares = []
        for rows, left_out in _folds(np.array(label), train.file, 5):
            fitted = pipeline.fit(train_vectors[rows], np.array(label)[rows])
            shares.append(100 * fitted.score(train_vectors[left_out], np.array(label)[left_out]))
        accuracies[strength] = np.mean(shares)
    assert probe.accuracies == pytest.approx(accuracies)
    assert len(set(accuracies.values())) > 1
    strength = max(accuracies, key=accuracies.__getitem__)
    assert probe.strength == strength
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(train_vectors, label)
    expected = pipeline.predict_proba(test_vectors).reshape(12, 2, 3).mean(axis=1)
    np.testing.assert_allclose(probe.probabilities(test), np.pad(expected, ((0, 0), (0, 1))), atol=1e-12)


@pytest.mark.parametrize("num_folds", [2, 5])
def test_no_file_is_on_both_sides_of_a_fold(num_folds: int) -> None:
    file = np.repeat(np.arange(20), 3)
    label = np.repeat(np.arange(20) % 4, 3)
    folds = _folds(label, file, num_folds)
    assert len(folds) == num_folds
    for train, test in folds:
        assert not set(file[train]) & set(file[test])
        assert set(label[train]) == set(label[test]) == {0, 1, 2, 3}
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(60))


def test_windows_of_one_video_do_not_give_its_label_away(store_features: StoreFeatures) -> None:
    """Each video has a direction of its own and labels are drawn by lot: other videos teach nothing."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(60, 80)), 4, axis=0) + 0.01 * rng.normal(size=(240, 80))
    label = np.repeat(rng.permutation(np.arange(60) % 2), 4)
    table = load_features(store_features(vectors.astype(np.float32), np.repeat(np.arange(60), 4).astype(str), label))
    probabilities, probes = cross_validate(table, 2, ProbeSettings(strengths=(1.0,)))
    assert len(probes) == 5
    assert 25 < 100 * (probabilities.argmax(axis=1) == label[::4]).mean() < 75


def test_each_video_is_judged_by_a_probe_that_saw_none_of_its_file(store_features: StoreFeatures) -> None:
    vectors, paths, label = clusters(30, 2, seed=1)
    table = load_features(store_features(vectors, paths, [*label[:-2], None, None]))
    probabilities, probes = cross_validate(table, 3, ProbeSettings())
    for (rows, left_out), probe in zip(_folds(np.array(label[:-2]), table.file[:-2], 5), probes, strict=True):
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=probe.strength, max_iter=1000))
        expected = pipeline.fit(vectors[rows], np.array(label)[rows]).predict_proba(vectors[left_out])
        np.testing.assert_allclose(
            probabilities[table.video[left_out][::2]], expected.reshape(-1, 2, 3).mean(axis=1), atol=1e-12
        )
    assert (probabilities[-1] == 0).all()


def test_a_solver_that_was_stopped_says_so(store_features: StoreFeatures) -> None:
    vectors, paths, label = clusters(30, 1, seed=1)
    table = load_features(store_features(vectors, paths, label))
    assert not fit_probe(table, 3, ProbeSettings(max_iterations=1)).has_converged
    assert fit_probe(table, 3, ProbeSettings()).has_converged


def test_settings_and_data_that_no_probe_can_use_are_refused(store_features: StoreFeatures) -> None:
    with pytest.raises(ConfigError, match="--folds must be at least 2, got 1"):
        ProbeSettings(num_folds=1)
    vectors, paths, _ = clusters(3, 2, seed=1)
    few = load_features(store_features(vectors, paths, [0, 0, 1, 1, 1, 1]))
    with pytest.raises(ConfigError, match=r"at least two classes with two labelled files each.*2 classes in 3 files"):
        fit_probe(few, 2, ProbeSettings())
    vectors[0, 0] = np.inf
    infinite = load_features(store_features(vectors, paths, [0, 0, 1, 1, 1, 1], name="infinite"))
    with pytest.raises(ConfigError, match=r"infinite: some features are NaN or infinite; extract them in a higher"):
        fit_probe(infinite, 2, ProbeSettings())


def test_the_verb_prints_and_writes_what_compare_reads(
    store_features: StoreFeatures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["run", "sit", "jump"]
    train = store_features(*clusters(30, 2, seed=1, spread=0.4), name="train", class_names=names)
    test = store_features(*clusters(12, 2, seed=2, spread=0.4), name="test", class_names=names)
    for windows in ("mean", "keep"):
        out = tmp_path / windows
        words = ["probe", str(train), "--test", str(test), "--out", str(out), "--windows", windows]
        assert main(words) == 0
        text = capsys.readouterr().out
        record = json.loads((out / "probe.json").read_text())
        predictions = load_predictions(out)
        assert predictions.keys == [(f"2/{video}.mp4", None, None) for video in range(12)]
        top1 = 100 * (predictions.prediction == np.arange(12) % 3).mean()
        assert record["metrics"]["top1"] == record["metrics"]["mean_class"] == pytest.approx(top1)
        assert record["metrics"]["top5"] == 100
        assert f"{top1:.2f}  (95%: {record['intervals']['top1']['low']:.2f} to" in text
        assert predictions.class_names == names
        assert record["files_in_both"] == 0
        assert record["rows"] == (30 if windows == "mean" else 60)
    assert main(["compare", str(tmp_path / "mean"), str(tmp_path / "keep"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["windows"] == ["mean", "keep"]


def test_without_a_test_the_verb_cross_validates(
    store_features: StoreFeatures, capsys: pytest.CaptureFixture[str]
) -> None:
    train = store_features(*clusters(30, 2, seed=1, spread=0.4))
    assert main(["probe", str(train), "--json", "--folds", "3", "--strengths", "0.1", "1"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["protocol"] == "cross-validation over files, 3 folds"
    assert record["num_videos"] == 30
    assert len(record["C"]) == len(record["accuracy_of_C"]) == 3
    assert record["metrics"]["top1"] > 80


def test_features_that_cannot_be_compared_are_refused(
    store_features: StoreFeatures, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = clusters(6, 1, seed=1)
    train = store_features(*rows, name="train", class_names=["a", "b", "c"])
    other = store_features(*rows, name="other", class_names=["a", "c", "b"])
    layer = store_features(*rows, name="layer", metadata={"layer": "tokens"})
    unlabelled = store_features(*rows[:2], name="unlabelled")
    for words, message in (
        ([train, "--test", other], f"class 1 is 'c' in {other} but 'b' in {train}"),
        ([train, "--test", layer], f"{layer} has layer tokens but {train} pooled; extract both alike"),
        ([unlabelled], "no row has a label"),
    ):
        assert main(["probe", *map(str, words)]) in (1, 2)
        assert message in capsys.readouterr().err


def test_without_scikit_learn_one_line_says_what_to_install(
    store_features: StoreFeatures, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main(["probe", str(store_features(*clusters(6, 1, seed=1)))]) == 2
    expected = "error: probe needs scikit-learn, which is not installed; pip install 'mvit-video[probe]'\n"
    assert capsys.readouterr().err == expected
