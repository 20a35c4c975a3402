"""The classical methods learn the drawn faces."""

import numpy as np
import pytest

from services.trainer.data.dataset import Dataset
from services.trainer.judging.baselines import hog_features, lbp_features, run_baselines


def test_baselines_learn_the_drawn_faces(drawn: Dataset) -> None:
    results = run_baselines(drawn)
    accuracy = {name: metrics["test"]["labels"]["all"].accuracy for name, metrics in results.items()}
    assert accuracy["majority class"] == pytest.approx(1 / 7, abs=1e-3)
    assert accuracy["HOG + linear SVM"] > 0.6
    assert accuracy["LBP histogram + SVM"] > 0.3


def test_features_have_their_shapes(drawn: Dataset) -> None:
    assert hog_features(drawn.pixels[:2]).shape == (2, 7 * 7 * 4 * 9)
    histograms = lbp_features(drawn.pixels[:2])
    assert histograms.shape == (2, 36 * 59)
    assert np.allclose((histograms**2).reshape(2, 36, 59).sum(axis=2), 1, atol=1e-5)
