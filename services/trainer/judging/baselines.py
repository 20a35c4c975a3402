"""`baselines`: the classical methods that the paper reviews, on the same splits (paper, 10).

Active shape and appearance models are missing: training them takes annotated landmarks, which FER2013 lacks, and no
maintained library on PyPI ships a trained one under a suitable licence.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.calibration import CalibratedClassifierCV
from sklearn.kernel_approximation import Nystroem
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from services.trainer.data.dataset import SPLITS, Dataset
from services.trainer.judging.evaluate import evaluate
from services.trainer.training.predictors import Answers, Predict
from shared.emotions import EMOTIONS
from shared.pictures import GreyImage
from shared.scores import Metrics

_LBP_GRID: Final = 6
_LBP_POINTS: Final = 8
_FOLDS: Final = 3


def run_baselines(data: Dataset, seed: int = 0) -> dict[str, Metrics]:
    """Scores of each baseline on both test splits, as `evaluate` gives them for a network."""
    makers: dict[str, Callable[[Dataset, int], Predict]] = {
        "majority class": _majority,
        "HOG + linear SVM": _hog_svm,
        "LBP histogram + SVM": _lbp_svm,
    }
    train = data.split("train")
    return {name: evaluate(make(train, seed), data, SPLITS[1:]) for name, make in makers.items()}


def hog_features(faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Histograms of oriented gradients (Dalal and Triggs 2005): cells of 6 pixels, blocks of 2x2 cells."""
    from skimage.feature import hog

    options: dict[str, Any] = {"orientations": 9, "pixels_per_cell": (6, 6), "cells_per_block": (2, 2)}
    return np.stack([hog(face, **options) for face in faces]).astype(np.float32)


def lbp_features(faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Histograms of uniform local binary patterns over 6x6 cells (Ahonen et al. 2006)."""
    return np.stack([_lbp(face) for face in faces]).astype(np.float32)


def _lbp(face: GreyImage) -> npt.NDArray[np.float32]:
    from skimage.feature import local_binary_pattern

    patterns = local_binary_pattern(face, _LBP_POINTS, 1, method="nri_uniform").astype(np.int64)
    kinds = _LBP_POINTS * (_LBP_POINTS - 1) + 3
    cells = [cell for row in np.split(patterns, _LBP_GRID) for cell in np.split(row, _LBP_GRID, axis=1)]
    histograms = [np.bincount(cell.ravel(), minlength=kinds) / cell.size for cell in cells]
    return np.sqrt(np.concatenate(histograms)).astype(np.float32)


def _majority(train: Dataset, _: int) -> Predict:
    shares = np.bincount(train.labels, minlength=len(EMOTIONS)) / len(train)
    return lambda faces: {"labels": np.tile(shares.astype(np.float32), (len(faces), 1))}


def _hog_svm(train: Dataset, seed: int) -> Predict:
    machine = make_pipeline(StandardScaler(), _svm(1e-5, seed))
    return _fitted(machine, hog_features, train)


def _lbp_svm(train: Dataset, seed: int) -> Predict:
    # A radial kernel over all images would take hours: Nystroem approximates it from 2,000 of them.
    kernel = Nystroem(gamma=0.05, n_components=min(2000, len(train)), random_state=seed)
    return _fitted(make_pipeline(kernel, _svm(1.0, seed)), lbp_features, train)


def _svm(c: float, seed: int) -> CalibratedClassifierCV:
    """A linear machine whose distances become probabilities by cross-validation on the training split.

    In the dual form: the primal takes several times as long here.
    """
    return CalibratedClassifierCV(LinearSVC(C=c, random_state=seed, dual=True), cv=_FOLDS)


def _fitted(
    machine: Any, features: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]], train: Dataset
) -> Predict:
    machine.fit(features(train.pixels), train.labels)

    def predict(faces: npt.NDArray[np.uint8]) -> Answers:
        return {"labels": np.asarray(machine.predict_proba(features(faces)), np.float32)}

    return predict
