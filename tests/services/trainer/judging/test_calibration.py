"""Confidence is made honest, the order of answers kept."""

from dataclasses import replace

import numpy as np
import pytest

from services.trainer.data.dataset import VOTE_COLUMNS, Dataset
from services.trainer.judging.calibration import Calibration, calibrated, fit_temperature, natural_shares, to_natural
from services.trainer.training.metrics import score
from shared.emotions import EMOTIONS


def test_the_temperature_makes_confidence_honest() -> None:
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.full(7, 0.5), 4000)
    labels = np.array([rng.choice(7, p=row) for row in truth], np.int8)
    too_sure = calibrated(truth.astype(np.float32), Calibration(1 / 2.5))
    temperature = fit_temperature(too_sure, labels)
    assert temperature == pytest.approx(2.5, rel=0.1)
    calm = calibrated(too_sure, Calibration(temperature))
    assert score(calm, labels).ece < 0.03 < score(too_sure, labels).ece
    assert (calm.argmax(axis=1) == too_sure.argmax(axis=1)).all()


def test_what_training_drew_too_often_is_taken_back() -> None:
    """Two emotions look alike to a degree; training showed them equally often, the world shows nine of one."""
    rng = np.random.default_rng(0)
    looks = rng.random(4000)  # the share of evidence for the first
    equally = np.zeros((len(looks), 7), np.float32)
    equally[:, 0], equally[:, 1] = looks, 1 - looks
    joint = np.stack([0.9 * looks, 0.1 * (1 - looks)], axis=1)
    truth = (rng.random(len(looks)) > joint[:, 0] / joint.sum(axis=1)).astype(np.int8)
    shift = to_natural((0.5, 0.5, 0, 0, 0, 0, 0), (0.9, 0.1, 0, 0, 0, 0, 0))
    told = calibrated(equally, Calibration(fit_temperature(equally, truth, shift), shift))
    assert score(told, truth).ece < 0.03 < score(equally, truth).ece
    assert score(told, truth).accuracy > score(equally, truth).accuracy + 0.1


def test_natural_shares_are_those_of_the_labels_or_of_the_votes(drawn: Dataset) -> None:
    votes = np.zeros((len(drawn), 10), np.uint8)
    votes[:, VOTE_COLUMNS.index("happiness")] = 10
    voted, train = replace(drawn, votes=votes), drawn.split("train")
    labels, people = (np.array(natural_shares(name, voted)) for name in ("labels", "people"))
    counts = np.bincount(train.labels, minlength=7) + 1
    assert labels == pytest.approx(counts / counts.sum(), abs=1e-4)
    assert people.argmax() == EMOTIONS.index("happy")
    assert people.min() > 0
