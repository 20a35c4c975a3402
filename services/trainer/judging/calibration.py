"""Making probabilities honest: for each answer one temperature (Guo et al. 2017), and emotions as frequent as in the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import keras
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from services.trainer.data.dataset import Dataset
from services.trainer.training.metrics import negative_log_likelihood
from services.trainer.training.predictors import answer_names
from shared.answers import AnswerName
from shared.choices import Probabilities
from shared.emotions import EMOTIONS

# Smaller probabilities count as this one, so that their logarithm stays finite, in float32 too.
_SMALLEST: Final = 1e-9
NO_SHIFT: Final = (0.0,) * len(EMOTIONS)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is done to the logits of an answer: divided by `temperature`, then `shift` (7,) is added."""

    temperature: float
    shift: tuple[float, ...] = NO_SHIFT


def natural_shares(name: AnswerName, data: Dataset) -> tuple[float, ...]:
    """How frequent each emotion is in the training split, by the labels or by FER+'s votes; none is quite 0."""
    counts = data.split("train").targets(original_weight=float(name == "labels"), label_smoothing=0).sum(axis=0) + 1
    return tuple(round(float(share), 5) for share in counts / counts.sum())


def to_natural(learnt: Sequence[float], natural: Sequence[float]) -> tuple[float, ...]:
    """The shift for an answer that was trained where emotions had the shares `learnt`, and is used where they are `natural`.

    Training draws rare emotions more often (`sampling`), so that they are learnt at all; without this correction, the
    answer would expect them as often (Saerens et al. 2002).
    """
    wanted, had = np.maximum(natural, _SMALLEST), np.maximum(learnt, _SMALLEST)
    return tuple(np.round(np.log(wanted / had), 5).tolist())


def fit_temperature(
    probabilities: Probabilities, labels: npt.NDArray[np.int8], shift: Sequence[float] = NO_SHIFT
) -> float:
    """The temperature that maximizes the likelihood of `labels`, where `shift` is added to the logits after it."""
    best = minimize_scalar(
        lambda log_t: negative_log_likelihood(
            calibrated(probabilities, Calibration(float(np.exp(log_t)), tuple(shift))), labels
        ),
        bounds=(-2, 2),
        method="bounded",
    )
    return round(float(np.exp(best.x)), 4)


def calibrated(probabilities: Probabilities, calibration: Calibration) -> Probabilities:
    """Probabilities (N, 7) made more (a temperature below 1) or less confident, and shifted; without a shift their order stays."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST)) / calibration.temperature
    logits += calibration.shift
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)


def with_calibration(model: keras.Model, calibrations: Mapping[AnswerName, Calibration]) -> keras.Model:
    """`model` with the calibration of each answer inside its graph."""
    faces = keras.Input(model.input_shape[1:], name="faces")
    outputs = model(faces)
    probabilities = [
        _calibrated(output, calibrations[name], name)
        for name, output in zip(answer_names(model), outputs if isinstance(outputs, list) else [outputs], strict=True)
    ]
    return keras.Model(faces, probabilities, name=model.name)


def _calibrated(probabilities: keras.KerasTensor, calibration: Calibration, name: AnswerName) -> keras.KerasTensor:
    logits = keras.ops.log(keras.ops.clip(probabilities, _SMALLEST, 1.0)) / calibration.temperature
    logits = logits + np.array([calibration.shift], np.float32)
    return keras.layers.Identity(name=name)(keras.ops.softmax(logits))
