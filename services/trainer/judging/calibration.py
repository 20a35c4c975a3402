"""Making confidence honest: one temperature for each answer (Guo et al. 2017)."""

from collections.abc import Mapping
from typing import Final

import keras
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from services.trainer.training.metrics import negative_log_likelihood
from services.trainer.training.predictors import answer_names
from shared.answers import AnswerName
from shared.choices import Probabilities

# Smaller probabilities count as this one, so that their logarithm stays finite, in float32 too.
_SMALLEST: Final = 1e-9


def fit_temperature(probabilities: Probabilities, labels: npt.NDArray[np.int8]) -> float:
    """The temperature that maximizes the likelihood of `labels`."""
    best = minimize_scalar(
        lambda log_t: negative_log_likelihood(apply_temperature(probabilities, float(np.exp(log_t))), labels),
        bounds=(-2, 2),
        method="bounded",
    )
    return round(float(np.exp(best.x)), 4)


def apply_temperature(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Probabilities (N, 7) made more (below 1) or less confident; their order stays."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST)) / temperature
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)


def with_temperatures(model: keras.Model, temperatures: Mapping[AnswerName, float]) -> keras.Model:
    """`model` with the temperature of each answer inside its graph."""
    faces = keras.Input(model.input_shape[1:], name="faces")
    outputs = model(faces)
    calibrated = [
        _calibrated(output, temperatures[name], name)
        for name, output in zip(answer_names(model), outputs if isinstance(outputs, list) else [outputs], strict=True)
    ]
    return keras.Model(faces, calibrated, name=model.name)


def _calibrated(probabilities: keras.KerasTensor, temperature: float, name: AnswerName) -> keras.KerasTensor:
    logits = keras.ops.log(keras.ops.clip(probabilities, _SMALLEST, 1.0)) / temperature
    return keras.layers.Identity(name=name)(keras.ops.softmax(logits))
