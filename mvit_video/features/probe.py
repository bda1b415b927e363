"""Linear probe: multinomial logistic regression on stored features.

Letters: R rows, V videos, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mvit_video.features.store import FeatureTable, video_means
from mvit_video.types import ConfigError

if TYPE_CHECKING:
    from sklearn.model_selection import GridSearchCV

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
_SEED = 0


@dataclass(frozen=True)
class ProbeSettings:
    """Settings of a probe.

    Attributes:
        strengths: values of C, the inverse of the penalty on the weights, to choose from.
        num_folds: folds of the cross-validation; fewer where there are fewer files.
        max_iterations: iterations of the solver.
    """

    strengths: Sequence[float] = STRENGTHS
    num_folds: int = 5
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        if not self.strengths or min(self.strengths) <= 0:
            raise ConfigError(f"--strengths must all be above 0, got {' '.join(map(str, self.strengths)) or 'none'}")
        if self.num_folds < 2:
            raise ConfigError(f"--folds must be at least 2, got {self.num_folds}")


@dataclass(frozen=True, eq=False)
class Probe:
    """Fitted probe.

    Attributes:
        strength: C that cross-validation chose, the smallest of equal ones.
        accuracies: percent of right rows on held-out folds, for each value of C.
        has_converged: whether the solver converged on all rows.
    """

    strength: float
    accuracies: dict[float, float]
    has_converged: bool
    num_classes: int
    _model: GridSearchCV

    def probabilities(self, table: FeatureTable) -> NDArray[np.float64]:
        """Return the mean over the rows of each video, `(V, K)`; 0 for a class without a training row."""
        return video_means(self._of_rows(_finite(table.vectors, table)), table)

    def _of_rows(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        probabilities = np.zeros((len(vectors), self.num_classes))
        probabilities[:, self._model.classes_] = self._model.predict_proba(vectors)
        return probabilities


def fit_probe(table: FeatureTable, num_classes: int, settings: ProbeSettings) -> Probe:
    """Standardise the channels and fit a multinomial logistic regression on the rows with a label.

    C is chosen by the accuracy of cross-validation over files: windows of one file are never on both sides. Each fold
    fits its own standardisation.

    Raises:
        ConfigError: scikit-learn is not installed, or fewer than two classes have two files.
    """
    known = np.flatnonzero(table.label >= 0)
    return _fit(_finite(table.vectors[known], table), table.label[known], table.file[known], num_classes, settings)


def cross_validate(
    table: FeatureTable, num_classes: int, settings: ProbeSettings
) -> tuple[NDArray[np.float64], list[Probe]]:
    """Return the probabilities `(V, K)` of each video by a probe that saw no row of its file, and the probes.

    Each probe chooses C by a cross-validation among the files that it saw. Videos without a label have only zeros.
    """
    known = np.flatnonzero(table.label >= 0)
    vectors, label, file = _finite(table.vectors, table), table.label, table.file
    of_rows, probes = np.zeros((len(table), num_classes)), []
    for train, test in _folds(label[known], file[known], settings.num_folds):
        rows = known[train]
        probe = _fit(vectors[rows], label[rows], file[rows], num_classes, settings)
        of_rows[known[test]] = probe._of_rows(vectors[known[test]])
        probes.append(probe)
    return video_means(of_rows, table), probes


def _fit(
    vectors: NDArray[np.float32],
    label: NDArray[np.int64],
    file: NDArray[np.int64],
    num_classes: int,
    settings: ProbeSettings,
) -> Probe:
    folds = _folds(label, file, settings.num_folds)
    from sklearn import exceptions, linear_model, model_selection, pipeline, preprocessing  # slow

    name = "logisticregression__C"
    search = model_selection.GridSearchCV(
        pipeline.make_pipeline(
            preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=settings.max_iterations)
        ),
        {name: sorted(settings.strengths)},
        cv=folds,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)  # `has_converged` reports it
        search.fit(vectors, label)
    scores = 100 * search.cv_results_["mean_test_score"]
    accuracies = dict(zip(sorted(settings.strengths), scores.tolist(), strict=True))
    iterations = search.best_estimator_["logisticregression"].n_iter_
    has_converged = bool((iterations < settings.max_iterations).all())
    return Probe(search.best_params_[name], accuracies, has_converged, num_classes, search)


def _folds(
    label: NDArray[np.int64], file: NDArray[np.int64], num_folds: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return rows to train on and rows to test on; all rows of a file are on one side, classes spread evenly."""
    pairs = np.unique(np.stack([label, file]), axis=1)[0]
    files_per_class = np.bincount(pairs)
    if (files_per_class >= 2).sum() < 2:
        raise ConfigError(
            "a probe needs at least two classes with two labelled files each, three without --test; "
            f"found {int((files_per_class > 0).sum())} classes in {len(np.unique(file))} files"
        )
    try:
        from sklearn import model_selection
    except ModuleNotFoundError:
        raise ConfigError("probe needs scikit-learn, which is not installed; pip install 'mvit-video[probe]'") from None
    number = min(num_folds, len(np.unique(file)), int(np.sort(files_per_class)[-2]))
    splitter = model_selection.StratifiedGroupKFold(number, shuffle=True, random_state=_SEED)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        return list(splitter.split(label, label, file))


def _finite(vectors: NDArray[Any], table: FeatureTable) -> NDArray[np.float32]:
    """Return the vectors in memory, in single precision."""
    values = vectors.astype(np.float32)
    if not np.isfinite(values).all():
        raise ConfigError(f"{table.source}: some features are NaN or infinite; extract them in a higher precision")
    return values
