"""Confidence is made honest, the order of answers kept."""

import numpy as np
import pytest

from services.trainer.judging.calibration import apply_temperature, fit_temperature
from services.trainer.training.metrics import score


def test_the_temperature_makes_confidence_honest() -> None:
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.full(7, 0.5), 4000)
    labels = np.array([rng.choice(7, p=row) for row in truth], np.int8)
    too_sure = apply_temperature(truth.astype(np.float32), 1 / 2.5)
    temperature = fit_temperature(too_sure, labels)
    assert temperature == pytest.approx(2.5, rel=0.1)
    calm = apply_temperature(too_sure, temperature)
    assert score(calm, labels).ece < 0.03 < score(too_sure, labels).ece
    assert (calm.argmax(axis=1) == too_sure.argmax(axis=1)).all()
