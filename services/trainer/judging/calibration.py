"""Making probabilities honest: for each answer one temperature and seven shifts (Guo et al. 2017, Alexandari et al. 2020)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import keras
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from services.trainer.training.predictors import by_answer
from shared.answers import AnswerName
from shared.choices import Probabilities
from shared.emotions import EMOTIONS

# Smaller probabilities count as this one, so that their logarithm stays finite, in float32 too.
SMALLEST: Final = 1e-9
# How far shifts go without much evidence, in nats: thousands of faces decide alone, a few dozen hardly.
_USUAL_SHIFT: Final = 0.5
_BOUNDS: Final = [(-2.0, 2.0)] * (1 + len(EMOTIONS))  # the logarithm of the temperature, and the shifts


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is done to the logits of an answer: divided by `temperature`, then `shift` (7,) is added."""

    temperature: float
    shift: tuple[float, ...] = (0.0,) * len(EMOTIONS)


def fit_calibration(probabilities: Probabilities, truth: npt.NDArray[np.int8]) -> Calibration:
    """The calibration that maximizes the likelihood of `truth` (N,), given probabilities (N, 7).

    The temperature mends how sure an answer is, the shifts how often it expects each emotion: training may draw rare ones
    more often, smooth its targets or weigh its loss, and afterwards they are expected as often as they are here.
    """

    def cost(values: npt.NDArray[np.float64]) -> float:
        likelihoods = log_softmax(_logits(probabilities, _calibration(values)), axis=1)[np.arange(len(truth)), truth]
        return float(np.square(values[1:] / _USUAL_SHIFT).sum() / 2 - likelihoods.sum())

    best = _calibration(minimize(cost, np.zeros(len(_BOUNDS)), method="L-BFGS-B", bounds=_BOUNDS).x)
    return Calibration(round(best.temperature, 4), tuple(round(value, 4) for value in best.shift))


def _calibration(values: npt.NDArray[np.float64]) -> Calibration:
    return Calibration(float(np.exp(values[0])), tuple(values[1:].tolist()))


def shares(truth: npt.NDArray[np.int8]) -> tuple[float, ...]:
    """How frequent each emotion is in `truth` (N,); none is quite 0."""
    counts = np.bincount(truth, minlength=len(EMOTIONS)) + 0.5
    return tuple(round(float(share), 5) for share in counts / counts.sum())


def calibrated(probabilities: Probabilities, calibration: Calibration) -> Probabilities:
    """Probabilities (N, 7) made more (a temperature below 1) or less confident, and shifted."""
    return np.asarray(softmax(_logits(probabilities, calibration), axis=1), np.float32)


def _logits(probabilities: Probabilities, calibration: Calibration) -> npt.NDArray[np.float64]:
    logits = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
    return np.asarray(logits / calibration.temperature + calibration.shift)


def with_calibration(model: keras.Model, calibrations: Mapping[AnswerName, Calibration]) -> keras.Model:
    """`model` with the calibration of each answer inside its graph."""
    faces = keras.Input(model.input_shape[1:], name="faces")
    answers = by_answer(model, model(faces))
    calibrated = [_calibrated(output, calibrations[name], name) for name, output in answers.items()]
    return keras.Model(faces, calibrated, name=model.name)


def _calibrated(probabilities: keras.KerasTensor, calibration: Calibration, name: AnswerName) -> keras.KerasTensor:
    logits = keras.ops.log(keras.ops.clip(probabilities, SMALLEST, 1.0)) / calibration.temperature
    return keras.layers.Identity(name=name)(keras.ops.softmax(logits + np.array([calibration.shift], np.float32)))
