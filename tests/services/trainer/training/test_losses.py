"""The losses are what their papers say, on numbers worked out by hand."""

import keras
import numpy as np
import pytest

from services.trainer.training.config import LossConfig
from services.trainer.training.losses import build_loss, class_weights

FREQUENCIES = np.array([4, 1, 4, 9, 4, 4, 4]) / 30
HAPPY, DISGUST = 3, 1


def value(config: LossConfig, target: int, answer: np.ndarray) -> float:
    loss = build_loss(config, FREQUENCIES)
    return float(keras.ops.convert_to_numpy(loss(np.eye(7, dtype=np.float32)[[target]], answer[np.newaxis])))


def sure(of: int, probability: float) -> np.ndarray:
    answer = np.full(7, (1 - probability) / 6, np.float32)
    answer[of] = probability
    return answer


def test_crossentropy_is_minus_the_log() -> None:
    assert value(LossConfig(), HAPPY, sure(HAPPY, 0.7)) == pytest.approx(-np.log(0.7), abs=1e-5)


def test_focal_counts_sure_answers_less() -> None:
    focal = LossConfig(name="focal", gamma=2)
    assert value(focal, HAPPY, sure(HAPPY, 0.9)) == pytest.approx(0.1**2 * -np.log(0.9), abs=1e-5)
    assert value(LossConfig(name="focal", gamma=0), HAPPY, sure(HAPPY, 0.6)) == pytest.approx(-np.log(0.6), abs=1e-5)


def test_logit_adjustment_adds_the_prior_in_training() -> None:
    even = np.full(7, 1 / 7, np.float32)
    adjusted = LossConfig(name="logit_adjusted", tau=1)
    assert value(adjusted, DISGUST, even) == pytest.approx(-np.log(FREQUENCIES[DISGUST]), abs=1e-5)
    assert value(adjusted, HAPPY, even) == pytest.approx(-np.log(FREQUENCIES[HAPPY]), abs=1e-5)
    assert value(LossConfig(name="logit_adjusted", tau=0), HAPPY, even) == pytest.approx(np.log(7), abs=1e-5)


@pytest.mark.parametrize(("kind", "ratio"), [("inverse", 9.0), ("sqrt", 3.0)])
def test_class_weights_grow_with_rarity_and_keep_the_mean(kind: str, ratio: float) -> None:
    weights = class_weights(LossConfig(class_weights=kind), FREQUENCIES)
    assert weights is not None
    assert weights[DISGUST] / weights[HAPPY] == pytest.approx(ratio, rel=1e-5)
    assert weights @ FREQUENCIES == pytest.approx(1, abs=1e-5)
    assert class_weights(LossConfig(), FREQUENCIES) is None


def test_consistency_costs_what_lies_between_two_views() -> None:
    def cost(one: np.ndarray, other: np.ndarray, weight: float) -> float:
        loss = build_loss(LossConfig(), FREQUENCIES, weight)
        target = np.eye(7, dtype=np.float32)[[HAPPY, HAPPY]]
        return float(keras.ops.convert_to_numpy(loss(target, np.stack([one, other]))))

    one, other = sure(HAPPY, 0.9), sure(DISGUST, 0.9)
    alone = cost(one, other, 0)
    middle = (one + other) / 2
    apart = ((one * np.log(one / middle)).sum() + (other * np.log(other / middle)).sum()) / 2
    assert cost(one, other, 2) == pytest.approx(alone + 2 * apart, abs=1e-4)
    assert cost(one, one, 2) == pytest.approx(cost(one, one, 0), abs=1e-5)
