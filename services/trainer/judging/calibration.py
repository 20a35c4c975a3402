"""Making confidence honest: one temperature for all answers (Guo et al. 2017)."""

from typing import Final

import keras
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from services.trainer.training.metrics import negative_log_likelihood
from shared.pipeline.classify import Probabilities

# Below this a probability counts as this: its logarithm stays finite, in float32 too.
_SMALLEST: Final = 1e-9


def fit_temperature(probabilities: Probabilities, labels: npt.NDArray[np.int8]) -> float:
    """By what to divide the logits so that the likelihood of `labels` is highest."""
    best = minimize_scalar(
        lambda log_t: negative_log_likelihood(apply_temperature(probabilities, float(np.exp(log_t))), labels),
        bounds=(-2, 2),
        method="bounded",
    )
    return round(float(np.exp(best.x)), 4)


def apply_temperature(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Probabilities (N, 7) made more (below 1) or less certain; their order stays."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST)) / temperature
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True), np.float32)


def with_temperature(model: keras.Model, temperature: float) -> keras.Model:
    """`model` with the temperature inside its graph."""
    faces = keras.Input(model.input_shape[1:], name="faces")
    probabilities = keras.ops.clip(model(faces), _SMALLEST, 1.0)
    calibrated = keras.ops.softmax(keras.ops.log(probabilities) / temperature)
    return keras.Model(faces, keras.layers.Identity(name="probabilities")(calibrated), name=model.name)
