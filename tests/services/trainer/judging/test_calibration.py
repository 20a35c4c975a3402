"""Confidence is made honest, and each emotion is expected as often as it is there."""

import numpy as np
import pytest

from services.trainer.judging.calibration import Calibration, calibrated, fit_calibration, shares, with_calibration
from services.trainer.training.metrics import score
from services.trainer.training.networks import build
from services.trainer.training.predictors import HEADS, keras_predictor
from shared.answers import AnswerName

EVIDENCE = np.random.default_rng(1).random(4000)  # that a face shows the first emotion, where both are as frequent


def seen_equally_often(evidence: np.ndarray) -> np.ndarray:
    probabilities = np.full((len(evidence), 7), 1e-9, np.float32)
    probabilities[:, 0], probabilities[:, 1] = evidence, 1 - evidence
    return probabilities


def nine_in_ten_are_the_first(evidence: np.ndarray) -> np.ndarray:
    first = 0.9 * evidence / (0.9 * evidence + 0.1 * (1 - evidence))
    return (np.random.default_rng(0).random(len(evidence)) > first).astype(np.int8)


def test_the_temperature_makes_confidence_honest() -> None:
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.full(7, 0.5), 4000)
    labels = np.array([rng.choice(7, p=row) for row in truth], np.int8)
    too_sure = calibrated(truth.astype(np.float32), Calibration(1 / 2.5))
    fitted = fit_calibration(too_sure, labels)
    assert fitted.temperature == pytest.approx(2.5, rel=0.1)
    assert score(calibrated(too_sure, fitted), labels).ece < 0.03 < score(too_sure, labels).ece
    assert (calibrated(too_sure, Calibration(2.5)).argmax(axis=1) == too_sure.argmax(axis=1)).all()


def test_what_training_drew_too_often_is_taken_back() -> None:
    learnt, truth = seen_equally_often(EVIDENCE), nine_in_ten_are_the_first(EVIDENCE)
    told = calibrated(learnt, fit_calibration(learnt, truth))
    assert score(told, truth).ece < 0.03 < score(learnt, truth).ece
    assert score(told, truth).accuracy > score(learnt, truth).accuracy + 0.1


def test_a_few_faces_shift_little() -> None:
    few = np.full(5, 0.5)
    shift = fit_calibration(seen_equally_often(few), np.zeros(5, np.int8)).shift
    assert 0 < shift[0] - shift[1] < 1
    assert max(np.abs(shift)) < 1


def test_shares_are_those_of_the_truth_and_never_quite_zero() -> None:
    found = shares(np.array([0] * 50 + [3] * 150, np.int8))
    assert found == pytest.approx((0.25, 0, 0, 0.75, 0, 0, 0), abs=0.02)
    assert min(found) > 0
    assert sum(found) == pytest.approx(1, abs=1e-4)


def test_each_answer_of_a_network_gets_its_own_calibration(faces_48: np.ndarray) -> None:
    plain = build("tiny", heads=HEADS)
    calibrations: dict[AnswerName, Calibration] = {
        "labels": Calibration(0.5, (2.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0)),
        "people": Calibration(2.0, (0.0, 0.0, 1.5, -1.5, 0.0, 0.0, 0.0)),
    }
    before, after = (keras_predictor(model)(faces_48) for model in (plain, with_calibration(plain, calibrations)))
    for name, calibration in calibrations.items():
        assert after[name] == pytest.approx(calibrated(before[name], calibration), abs=1e-5)


@pytest.fixture
def faces_48() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (16, 48, 48), np.uint8)
